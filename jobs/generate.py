#!/usr/bin/env python3
"""Answer a stored prompt set as a Ray job: `ray job submit -- jobs/generate.py --model smollm2-135m`."""

import click

from koala_ray.cli import DEFAULT_RECIPE, main_of, prompts_option, recipe_options, reported
from koala_ray.generate.step import generate
from koala_ray.prompts import load_prompts
from koala_ray.recipe_file import load_recipe


@click.command()
@click.option("--model", required=True, help="A base model's name, a Hugging Face id, a folder or a URI.")
@prompts_option
@click.option("--recipe", default=DEFAULT_RECIPE, show_default=True, help="Gives the sampling settings.")
@recipe_options
@reported
def job(model: str, prompts: str, recipe: str, data: str | None, out: str, sets: tuple[str, ...]) -> dict:
    settings = load_recipe(recipe, sets).generate
    _, figures = generate(model, load_prompts(prompts, settings.limit, data), settings, out)
    click.echo(f"answers: {figures['folder']}")
    return figures


if __name__ == "__main__":
    main_of(job)
