"""A plan for the terminal."""

from __future__ import annotations

import io
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from koala_ray.pages import Grid
from koala_ray.plan.grids import WORDS, assumptions_grid, headline, koala_grid, memory_grid, money_grid, prices_grid


def text(plan: Mapping[str, Any]) -> str:
    """The plan as lines, as wide as the terminal is and 100 columns where there is none."""
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    parts = [
        f"{plan['recipe']} on {plan['on']}: {plan['known_from']}",
        *(textwrap.fill(note, width) for note in plan["notes"]),
        _headline(plan),
        _grid(memory_grid(plan), width),
    ]
    if plan["advice"]:
        parts.append("It doesn't fit. What would help, in this order:\n" + "\n".join(f"  {x}" for x in plan["advice"]))
    grids = (money_grid, prices_grid, koala_grid, assumptions_grid)
    parts += [_grid(grid, width) for grid in (make(plan) for make in grids) if grid.rows]
    return "\n\n".join(parts) + "\n"


def _headline(plan: Mapping[str, Any]) -> str:
    return "\n".join(f"{name:<20}{value:<16}{beside}" for name, value, beside in headline(plan))


def _grid(grid: Grid, width: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for header in grid.headers:
        words = header in WORDS
        shown.add_column(Text(header), justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in grid.rows:
        shown.add_row(*(Text(cell) for cell in row))
    # Written to a string, so that colours and the width don't depend on where it will be shown.
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None).print(shown)
    return f"{grid.caption}\n" + "\n".join(line.rstrip() for line in buffer.getvalue().strip("\n").splitlines())
