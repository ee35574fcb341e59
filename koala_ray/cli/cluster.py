"""The commands about the local cluster."""

from __future__ import annotations

from typing import Any

import click

from koala_ray.cli.common import reported


@click.group()
def cluster() -> None:
    """A Ray cluster on this machine: token authentication, nothing listening beyond loopback."""


@cluster.command("up")
@click.option("--cpus", type=int, help="CPUs that Ray may give away; all of this machine's by default.")
@reported
def cluster_up(cpus: int | None) -> Any:
    """Start a local cluster and print the lines that join a shell to it.

    \b
    eval "$(koala-ray cluster up)"
    ray job submit jobs/train.py
    """
    from koala_ray.cluster.local import exports, up

    started = up(cpus=cpus)
    for note in started.notes:
        click.echo(f"note: {note}", err=True)
    state = "is already up" if started.already_up else "is up"
    click.echo(f"# Ray {state} at {started.address}, dashboard {started.dashboard}; in your shell:")
    for line in exports(started):
        click.echo(line)
    return {"address": started.address, "dashboard": started.dashboard, "exports": exports(started)}


@cluster.command("status")
@reported
def cluster_status() -> Any:
    """Show the local cluster's nodes and jobs."""
    from koala_ray.cluster.local import status

    found = status()
    click.echo(f"{found['address']}  dashboard {found['dashboard']}  ${found['dollars_per_hour']:.2f} an hour")
    for node in found["nodes"]:
        click.echo(f"node {node['id'][:12]}  {node['state']}  {node['cpus']:g} CPUs  {node['gpus']:g} GPUs")
    for job in found["jobs"]:
        click.echo(f"job  {job['id']}  {job['status']}  {job['seconds']:.0f} s  {job['entrypoint']}")
    return found


@cluster.command("down")
@reported
def cluster_down() -> Any:
    """End the local cluster that `up` started, and nothing else."""
    from koala_ray.cluster.local import down

    ended = down()
    click.echo(f"ended {ended['ended']} processes" if ended["ended"] else "no local cluster was running")
    return ended
