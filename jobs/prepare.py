#!/usr/bin/env python3
"""Prepare a recipe's data as a Ray job: `ray job submit -- jobs/prepare.py --recipe koala-smol`."""

import click

from koala_ray.cli import DEFAULT_RECIPE, main_of, recipe_options, reported
from koala_ray.prepare import prepare
from koala_ray.recipe_file import load_recipe


@click.command()
@click.option("--recipe", default=DEFAULT_RECIPE, show_default=True, help="A recipe's name or YAML file.")
@recipe_options
@reported
def job(recipe: str, data: str | None, out: str, sets: tuple[str, ...]) -> dict:
    _, figures = prepare(load_recipe(recipe, sets, data), out)
    click.echo(f"token shards: {figures['folder']}")
    return figures


if __name__ == "__main__":
    main_of(job)
