"""The commands about recipes."""

from __future__ import annotations

from typing import Any

import click

from koala_ray.cli.common import DEFAULT_RECIPE, reported, set_option


@click.group()
def recipe() -> None:
    """List recipes, or print one with all its settings."""


@recipe.command("list")
@reported
def recipe_list() -> Any:
    """List the recipes that come with the package."""
    from koala_ray.recipe_file import load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    for item in recipes:
        click.echo(f"{item.name:<20}{item.about}")
    return {"recipes": {item.name: item.about for item in recipes}}


@recipe.command("show")
@click.argument("name", default=DEFAULT_RECIPE)
@click.option("--data", metavar="DIR|URI", help="The raw files' folder or URI (data.root).")
@set_option
@reported
def recipe_show(name: str, data: str | None, sets: tuple[str, ...]) -> Any:
    """Print a recipe as YAML, every default filled in and every override applied.

    \b
    koala-ray recipe show koala-smol --set train.lr=1e-5
    """
    from koala_ray.recipe_file import load_recipe

    resolved = load_recipe(name, sets, data)
    click.echo(resolved.to_yaml(), nl=False)
    return resolved.model_dump(mode="json")
