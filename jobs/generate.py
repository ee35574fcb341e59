#!/usr/bin/env python3
"""Answer a stored prompt set as a Ray job: `ray job submit -- jobs/generate.py --model smollm2-135m`."""

import click

from koala_ray.cli import DEFAULT_OUT, DEFAULT_RECIPE, main_of, reported, set_option
from koala_ray.generate.prompts import load_prompts
from koala_ray.generate.step import generate
from koala_ray.recipe import load_recipe


@click.command()
@click.option("--model", required=True, help="A base model's name, a Hugging Face id, a folder or a URI.")
@click.option("--prompts", default="sample", show_default=True, help="A prompt set's name, or a JSON-lines file.")
@click.option("--recipe", default=DEFAULT_RECIPE, show_default=True, help="Gives the sampling settings.")
@click.option("--out", default=DEFAULT_OUT, show_default=True, help="Where results go.")
@set_option
@reported
def job(model: str, prompts: str, recipe: str, out: str, sets: tuple[str, ...]) -> dict:
    settings = load_recipe(recipe, sets).generate
    _, figures = generate(model, load_prompts(prompts, settings.limit), settings, out)
    click.echo(f"answers: {figures['folder']}")
    return figures


if __name__ == "__main__":
    main_of(job)
