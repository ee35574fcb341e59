#!/usr/bin/env python3
"""Train a recipe as a Ray job: `ray job submit jobs/train.py`, or with arguments after `--`.

ray job submit -- jobs/train.py --recipe tiny --set train.epochs=1 --price 1.50 --budget 100
"""

import click

from koala_ray.cli import DEFAULT_RECIPE, cost_options, main_of, recipe_options, reported
from koala_ray.prepare import prepare
from koala_ray.recipe_file import load_recipe
from koala_ray.train.step import train


@click.command()
@click.option("--recipe", default=DEFAULT_RECIPE, show_default=True, help="A recipe's name or YAML file.")
@recipe_options
@cost_options
@reported
def job(recipe: str, data: str | None, out: str, sets: tuple[str, ...]) -> dict:
    resolved = load_recipe(recipe, sets, data)
    tokens, _ = prepare(resolved, out)
    _, figures = train(resolved, tokens, out)
    click.echo(f"model: {figures['model']}")
    return figures


if __name__ == "__main__":
    main_of(job)
