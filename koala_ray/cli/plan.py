"""The command that prices a run before any machine is rented."""

from __future__ import annotations

from typing import Any

import click

from koala_ray.cli.common import DEFAULT_OUT, DEFAULT_RECIPE, reported, set_option

KOALA_MACHINE = "8xA100-80GB"
"""What Koala was trained on."""


@click.command()
@click.argument("name", metavar="RECIPE", default=DEFAULT_RECIPE)
@click.option("--on", metavar="MACHINES", default=KOALA_MACHINE, show_default=True, help="GPUs or CPUs to plan for.")
@click.option(
    "--price", metavar="DOLLARS", type=click.FloatRange(min=0), help="For a GPU-hour on spot; else the newest known."
)
@click.option(
    "--on-demand", metavar="DOLLARS", type=click.FloatRange(min=0), help="For a GPU-hour that isn't reclaimed."
)
@click.option(
    "--tokens", metavar="N", type=click.IntRange(min=1), help="Tokens of an epoch, where no packs are prepared."
)
@click.option("--packs", metavar="DIR|URI", help="A tokens step's folder: its real packed rows are planned for.")
@click.option(
    "--out",
    metavar="DIR|URI",
    default=DEFAULT_OUT,
    show_default=True,
    help="Where the recipe's own packs are looked for, without --tokens and --packs.",
)
@click.option("--hazard", metavar="RATE", type=click.FloatRange(min=0), help="Reclaims in an hour of one node.")
@click.option(
    "--efficiency", metavar="MFU", type=click.FloatRange(0, 1, min_open=True), help="Of forward and backward, 0 to 1."
)
@click.option("--html", metavar="FILE", help="Write the plan as a page, too.")
@click.option("--data", metavar="DIR|URI", help="The raw files' folder or URI (data.root).")
@set_option
@reported
def plan(
    name: str,
    on: str,
    price: float | None,
    on_demand: float | None,
    tokens: int | None,
    packs: str | None,
    out: str,
    hazard: float | None,
    efficiency: float | None,
    html: str | None,
    data: str | None,
    sets: tuple[str, ...],
) -> Any:
    """Memory, hours and dollars of a run before any machine is rented.

    \b
    koala-ray plan koala-all-13b --on 8xA100-80GB --price 1.50 --tokens 180000000
    koala-ray plan koala-smol --on 1xcpu --price 0.40 --html plan.html
    koala-ray plan koala-smol --on 1xH100 --packs koala-out/tokens-0123456789ab
    """
    from koala_ray import storage
    from koala_ray.plan.page import page
    from koala_ray.plan.plan import plan as run_plan
    from koala_ray.plan.text import text
    from koala_ray.prepare import prepared
    from koala_ray.recipe_file import load_recipe

    recipe = load_recipe(name, sets, data)
    found = run_plan(
        recipe,
        on,
        price,
        tokens=tokens,
        packs=packs if tokens or packs else prepared(recipe, out),
        hazard=hazard,
        on_demand=on_demand,
        efficiency=efficiency,
    )
    click.echo(text(found), nl=False)
    if html:
        storage.write_atomic(html, page(found).encode())
        click.echo(storage.absolute(html), err=True)
    return found
