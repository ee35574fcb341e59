"""The commands about machines that vanish: the agent on each node, and the drill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from koala_ray.cli.common import reported
from koala_ray.errors import KoalaError


@click.command("spot-agent")
@click.option(
    "--cloud",
    type=click.Choice(["auto", "aws", "gcp", "none"]),
    default="auto",
    show_default=True,
    help="Whose metadata service to ask; auto takes the one that answers.",
)
@click.option("--file", type=click.Path(path_type=Path), help="Also take a file that appears; it holds seconds left.")
@click.option("--every", default=2.0, show_default=True, help="Seconds between two looks.")
@click.option("--sigterm-seconds", default=25.0, show_default=True, help="Seconds left after SIGTERM.")
@click.option("--address", help="The cluster's HOST:PORT; by default the one that this machine belongs to.")
@click.option("--node-id", help="The node's id, where several run on one machine.")
@reported
def spot_agent(
    cloud: str, file: Path | None, every: float, sigterm_seconds: float, address: str | None, node_id: str | None
) -> Any:
    """Watch for the notice that this machine will be taken away, and drain its Ray node.

    Runs until then; start one on each spot node, after `ray start`. Training saves and goes on elsewhere.

    \b
    nohup koala-ray spot-agent > spot-agent.log 2>&1 &
    koala-ray spot-agent --cloud none --file /run/preempt      # echo 60 > /run/preempt gives a minute's notice
    """
    from koala_ray.preempt.agent import Agent, cluster_address, drainer, on_sigterm, this_node
    from koala_ray.preempt.sources import Aws, Gcp, NoticeFile, Source, detect

    def say(text: str) -> None:
        click.echo(text, err=True)

    known: dict[str, Source] = {"aws": Aws(say), "gcp": Gcp()}
    chosen = known.get(cloud)
    if cloud == "auto":
        chosen = detect(say)
        say(f"cloud: {chosen.name}" if chosen else "no cloud's metadata service answers here")
    sources = [source for source in (chosen, NoticeFile(file) if file else None) if source]
    where = address or cluster_address()
    node = node_id or this_node(where)
    agent = Agent(sources, drainer(where, node), say, every)
    on_sigterm(agent, sigterm_seconds)
    watched = ", ".join([*(source.name for source in sources), "SIGTERM"])
    say(f"watching {watched} for node {node[:12]} of {where}")
    notice = agent.run()
    return {"node": node, "notice": notice.text if notice else None, "deadline": notice.deadline if notice else None}


@click.command()
@click.option("--recipe", default="tiny", show_default=True, help="The recipe to train; its data is prepared first.")
@click.option(
    "--kills",
    help="In this order: worker, workers_all, hang, driver, upload (amid a checkpoint); and those that take a node "
    "away: node, notice, notice_short, notice_two, agent, shrink.  [default: worker,node,driver,upload,notice; "
    "on a given cluster worker,workers_all,hang,driver,upload]",
)
@click.option("--workers", default=2, show_default=True, help="Train workers; on this machine one on each node.")
@click.option("--seed", default=0, show_default=True, help="Chooses the victims.")
@click.option(
    "--out", default="koala-out/drill", show_default=True, help="A folder or URI for both runs, seen by all machines."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--patience", default=300.0, show_default=True, help="Seconds to wait for a run to get anywhere.")
@reported
def drill(
    recipe: str, kills: str | None, workers: int, seed: int, out: str, settings: tuple[str, ...], patience: float
) -> Any:
    """Train twice, once while machines vanish, and compare the two runs.

    Starts a Ray of its own on this machine with a node for each worker; or, where RAY_ADDRESS names a cluster, disturbs
    that one, as users do before they trust it with money. There only this drill's own workers are killed, unless a
    kill is named that takes a node, with all that runs on it; its Ray is started again afterwards. Run it on a machine
    of the cluster whose node isn't taken, best the head.

    \b
    koala-ray drill
    koala-ray drill --kills worker,notice --set train.zero_stage=3
    RAY_ADDRESS=auto koala-ray drill --workers 16 --set train.gpus_per_worker=1 --kills worker,node --out s3://BUCKET/drill
    """
    from koala_ray.preempt.drill import KINDS, SPARING, run_drill
    from koala_ray.preempt.given import given_cluster
    from koala_ray.preempt.machines import machines
    from koala_ray.preempt.verdict import lines

    given = bool(os.environ.get("RAY_ADDRESS"))
    if kills is None:
        kills = ",".join(SPARING) if given else "worker,node,driver,upload,notice"
    kinds = [kind for kind in kills.split(",") if kind]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise KoalaError(f"no such kill: {', '.join(unknown)}", where="--kills", mend=f"use {', '.join(KINDS)}")
    if "shrink" in kinds and workers < 2:
        raise KoalaError("one worker can't shrink", where="--kills shrink", mend="--workers 2, or other kills")
    chosen = ["train.max_steps=40", "train.checkpoint_every=2", "guards.hang_seconds=20", "retries.settle_seconds=3"]
    chosen += settings
    with given_cluster() if given else machines(workers) as fleet:
        found = run_drill(recipe, out, chosen, kinds, workers, seed, fleet, patience)
    for line in lines(found):
        click.echo(line)
    return found
