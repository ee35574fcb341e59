"""The command line. Each command imports what it needs when it runs, so that ``--help`` is instant."""

from __future__ import annotations

import click

from koala_ray import __version__
from koala_ray.cli.cluster import cluster
from koala_ray.cli.common import (
    DEFAULT_OUT,
    DEFAULT_RECIPE,
    cost_options,
    listed,
    main_of,
    models_option,
    prompts_option,
    recipe_options,
    reported,
)
from koala_ray.cli.data import fetch, ledger, preview, sample_data, sources
from koala_ray.cli.nodes import drill, spot_agent
from koala_ray.cli.plan import plan
from koala_ray.cli.recipes import recipe
from koala_ray.cli.runs import curves, export
from koala_ray.cli.serving import serve
from koala_ray.cli.stages import generate, prepare, run, train

__all__ = [
    "DEFAULT_OUT",
    "DEFAULT_RECIPE",
    "cli",
    "cost_options",
    "listed",
    "main",
    "main_of",
    "models_option",
    "prompts_option",
    "recipe_options",
    "reported",
]
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=HELP)
@click.version_option(__version__, prog_name="koala-ray")
def cli() -> None:
    """From public dialogue data to a fine-tuned, evaluated dialogue model, on Ray.

    \b
    koala-ray run koala-smol                       the whole loop on this machine's CPU
    koala-ray prepare koala-smol --data s3://b/raw --out s3://b/koala
    koala-ray train koala-smol --set train.lr=1e-5 --set train.max_steps=100
    koala-ray generate --models base,koala-smol --prompts koala,vicuna
    koala-ray serve --models base,koala-smol       an OpenAI-compatible server
    koala-ray curves koala-out/train-*             losses and speed, of several runs together
    koala-ray plan koala-all-13b --on 8xA100-80GB  memory, hours and dollars, before anything is rented
    koala-ray recipe show koala-all-13b            all settings of a recipe
    """


STAGES = (prepare, train, generate, run, serve)
AROUND = (sources, fetch, preview, ledger, sample_data, recipe, plan, curves, export, cluster, spot_agent, drill)
for command in STAGES + AROUND:
    cli.add_command(command)


def main() -> None:
    """The ``koala-ray`` command."""
    main_of(cli)
