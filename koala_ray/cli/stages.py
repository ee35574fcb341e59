"""The commands that do the work: each runs a stage of a recipe, and the stages before it."""

from __future__ import annotations

from typing import Any

import click

from koala_ray.cli.common import (
    DEFAULT_RECIPE,
    cost_options,
    listed,
    models_option,
    point_to,
    prompts_option,
    recipe_options,
    reported,
)


@click.command()
@click.argument("name", metavar="RECIPE", default=DEFAULT_RECIPE)
@recipe_options
@reported
def prepare(name: str, data: str | None, out: str, sets: tuple[str, ...]) -> Any:
    """Raw files → curated examples → packed token shards.

    \b
    koala-ray prepare koala-smol
    koala-ray prepare koala-smol --data ~/raw --set 'data.sources.hc3=["hc3/*.jsonl"]'
    """
    from koala_ray.prepare import prepare as run_prepare
    from koala_ray.recipe_file import load_recipe

    _, figures = run_prepare(load_recipe(name, sets, data), out)
    point_to(
        f"{figures['rows_kept']:,} of {figures['rows_in']:,} rows kept, {figures['tokens']:,} tokens"
        f" ({figures['learnt_tokens']:,} learnt) in {figures['packs']:,} packed rows,"
        f" {100 * figures['fill']:.1f} % full",
        figures["folder"],
    )
    return figures


@click.command()
@click.argument("name", metavar="RECIPE", default=DEFAULT_RECIPE)
@recipe_options
@cost_options
@reported
def train(name: str, data: str | None, out: str, sets: tuple[str, ...]) -> Any:
    """Train on the packed rows; prepares them first if that isn't done. An interrupted run goes on.

    \b
    koala-ray train koala-smol
    koala-ray train tiny --set train.workers=2 --set train.zero_stage=2
    koala-ray train koala-all-13b --price 1.50 --budget 100
    """
    from koala_ray.prepare import prepare as run_prepare
    from koala_ray.recipe_file import load_recipe
    from koala_ray.train.step import train as run_train

    resolved = load_recipe(name, sets, data)
    tokens, _ = run_prepare(resolved, out)
    _, figures = run_train(resolved, tokens, out)
    point_to(f"{figures['steps']:,} steps", figures["model"])
    return figures


@click.command()
@models_option
@prompts_option
@click.option("--recipe", "name", default=DEFAULT_RECIPE, show_default=True, help="Gives sampling and `base`.")
@recipe_options
@reported
def generate(
    models: tuple[str, ...], prompts: str, name: str, data: str | None, out: str, sets: tuple[str, ...]
) -> Any:
    """Answer stored prompt sets with models, in Koala's template. Run again, it asks only for what it doesn't have.

    Models: `base`, a bundled model, a Hugging Face id, a folder or URI, the name of a recipe trained below --out. A
    folder may hold a LoRA adapter by itself; a run that goes on is asked with its latest checkpoint. Prompt sets by
    name: sample; and, below --data or $KOALA_DATA, koala, self-instruct, vicuna, mt-bench, alpaca-180 (`koala-ray
    fetch` gets them).

    \b
    koala-ray generate --model smollm2-135m --prompts sample
    koala-ray generate --models base,koala-smol --prompts koala,vicuna --out s3://bucket/koala
    koala-ray generate --model koala-out/train-0123456789ab --prompts my.jsonl --set generate.max_tokens=64
    koala-ray generate --models base --prompts koala --set generate.replicas=2 --set generate.temperature=0.7
    """
    from koala_ray.generate.batch import generate as run_generate
    from koala_ray.generate.batch import summary
    from koala_ray.prompts import load_prompts
    from koala_ray.recipe_file import load_recipe

    recipe = load_recipe(name, sets)
    asked = [load_prompts(one, recipe.generate.limit, data) for one in listed(prompts)]
    found = run_generate(models, asked, recipe.generate, out, recipe.model.base)
    figures = summary(found, out)
    point_to(f"{figures['answered']:,} of {figures['asked']:,} prompts answered", figures["folder"])
    return figures


@click.command()
@click.argument("name", metavar="RECIPE", default=DEFAULT_RECIPE)
@prompts_option
@recipe_options
@cost_options
@reported
def run(name: str, prompts: str, data: str | None, out: str, sets: tuple[str, ...]) -> Any:
    """The whole loop: prepare, train, answer with the base and the tuned model, and a page of both.

    \b
    koala-ray run koala-smol
    koala-ray run tiny --set train.max_steps=20 --out /tmp/tiny
    """
    from koala_ray.recipe_file import load_recipe
    from koala_ray.run import run as run_all

    return run_all(load_recipe(name, sets, data), out, prompts)
