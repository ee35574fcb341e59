"""A plan as a page to show to whoever pays: one file, no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koala_ray import pages
from koala_ray.pages import Grid, escaped
from koala_ray.plan.figures import memory_figure, money_figure, step_figure
from koala_ray.plan.grids import (
    WORDS,
    assumptions_grid,
    headline,
    koala_grid,
    memory_grid,
    money_grid,
    prices_grid,
)

OWN_STYLE = "tbody th{font-weight:400} li code{overflow-wrap:anywhere}"


def page(plan: Mapping[str, Any]) -> str:
    """The page as HTML; equal plans give equal text."""
    title = f"What {plan['recipe']} will take on {plan['on']}"
    lines = "".join(f"<li><code>{escaped(line)}</code></li>" for line in plan["advice"])
    advice = f"<p>It doesn't fit. What would help, in this order:</p><ol>{lines}</ol>" if lines else ""
    about = f"{plan['about']} Planned from {plan['known_from']}, before any machine is rented."
    step = pages.figure("Seconds of one step", step_figure(plan))
    body = (
        f'<h1>{escaped(title)}</h1><p class="about">{escaped(about)}</p>{_notes(plan)}{pages.headline(headline(plan))}'
        f"<h2>Does it fit?</h2>{_beside('Memory of a device by ZeRO stage', memory_figure(plan), memory_grid(plan))}"
        f"{advice}<h2>What does it cost?</h2>{_beside('Dollars', money_figure(plan), money_grid(plan))}"
        f"{_table(prices_grid(plan))}"
        f'<h2>Where does a step\'s time go?</h2>{step}<p class="note">{escaped(_time_note(plan))}</p>'
        f"<h2>Koala's own bill</h2>{_table(koala_grid(plan))}"
        f"<h2>What this rests on</h2>{_table(assumptions_grid(plan))}"
    )
    return pages.document(title, body, style=OWN_STYLE)


def _notes(plan: Mapping[str, Any]) -> str:
    return "".join(f"<p>{escaped(note)}</p>" for note in plan["notes"])


def _time_note(plan: Mapping[str, Any]) -> str:
    return (
        f"A token takes {plan['flops_per_token'] / 1e9:.1f} GFLOP: 6 for each trained parameter, 4 for each frozen "
        f"one, and 12 · layers · width for each of the {plan['attended']:.0f} positions it attends to in the mean. "
        "Recomputing activations takes more, which counts in the efficiency."
    )


def _beside(caption: str, svg: str, grid: Grid) -> str:
    return pages.beside_each_other(pages.figure(caption, svg), _table(grid))


def _table(grid: Grid) -> str:
    return pages.table(grid, WORDS)
