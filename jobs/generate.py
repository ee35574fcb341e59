#!/usr/bin/env python3
"""Answer stored prompt sets as a Ray job: `ray job submit -- jobs/generate.py --models base,koala-smol`."""

import click

from koala_ray.cli import DEFAULT_RECIPE, listed, main_of, models_option, prompts_option, recipe_options, reported
from koala_ray.generate.batch import generate, summary
from koala_ray.prompts import load_prompts
from koala_ray.recipe_file import load_recipe


@click.command()
@models_option
@prompts_option
@click.option("--recipe", default=DEFAULT_RECIPE, show_default=True, help="Gives the sampling settings and `base`.")
@recipe_options
@reported
def job(models: tuple[str, ...], prompts: str, recipe: str, data: str | None, out: str, sets: tuple[str, ...]) -> dict:
    resolved = load_recipe(recipe, sets)
    asked = [load_prompts(name, resolved.generate.limit, data) for name in listed(prompts)]
    figures = summary(generate(models, asked, resolved.generate, out, resolved.model.base), out)
    click.echo(f"answers: {figures['folder']}")
    return figures


if __name__ == "__main__":
    main_of(job)
