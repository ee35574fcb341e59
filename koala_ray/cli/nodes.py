"""The command that runs on each node of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from koala_ray.cli.common import reported


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
