"""The panels on paper: all of them as one PNG, or each as an SVG element for a page, which gives it its colours."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

from koala_ray.pages import printable
from koala_ray.train.curves.panels import COLOURS, COURSE, INCIDENT, LOSS, Panel, group_panels, looks
from koala_ray.train.curves.runs import Runs

WIDE, NARROW, SMALL = (560.0, 230.0), (360.0, 180.0), (190.0, 120.0)
"""Widths and heights in points: texts must stay readable on a phone."""
GROUPS_IN_A_ROW = 4
DOTS_PER_INCH = 130


def curves_png(runs: Runs) -> bytes:
    """A PNG of all panels; equal records give equal bytes.

    Args:
        runs: each run's records (``metrics.jsonl``) under its name.
    """
    groups = group_panels(runs)
    rows = -(-len(groups) // GROUPS_IN_A_ROW)
    heights = [WIDE[1] + 30, *[SMALL[1] * rows] * bool(rows), 2 * NARROW[1]]
    buffer = io.BytesIO()
    with _style() as new_figure:
        figure = new_figure(2 * NARROW[0], sum(heights))
        top, *middle, bottom = figure.subfigures(len(heights), height_ratios=heights)
        _fill(top.add_subplot(), LOSS, runs)
        _legend(top, runs)
        if middle:
            grid = middle[0].subplots(rows, GROUPS_IN_A_ROW, squeeze=False)
            for axes, panel in zip_longest(grid.flat, groups):
                if panel:
                    _fill(axes, panel, runs, small=True)
                else:
                    axes.set_axis_off()
        for axes, panel in zip(bottom.subplots(2, 2).flat, COURSE, strict=True):
            _fill(axes, panel, runs)
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": ""})
    return buffer.getvalue()


def curves_svg(panel: Panel, runs: Runs, size: tuple[float, float], label: str) -> str:
    """A panel as an SVG element without its title, its colours CSS variables named as in :data:`COLOURS`.

    Args:
        panel: what to draw.
        runs: each run's records under its name.
        size: width and height in points.
        label: says what is seen to those who can't see it.
    """
    buffer = io.StringIO()
    with _style(salt=panel.title) as new_figure:
        figure = new_figure(*size)
        _fill(figure.add_subplot(), Panel("", panel.draw), runs, small=size == SMALL)
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _as_element(buffer.getvalue(), label)


@contextmanager
def _style(salt: str = "koala-ray") -> Iterator[Any]:
    """A maker of figures, by width and height in points, in the house's style whatever a user's own settings are."""
    import matplotlib
    from matplotlib import style
    from matplotlib.figure import Figure

    ink, faint, line = (COLOURS[name][0] for name in ("ink", "faint", "line"))
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "text.color": ink,
        "text.parse_math": False,
        "axes.titlecolor": ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 9,
        "axes.edgecolor": line,
        "axes.labelcolor": faint,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": line,
        "grid.linewidth": 0.5,
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": faint,
        "ytick.labelcolor": faint,
    }
    with style.context("default"), matplotlib.rc_context(settings):
        yield lambda width, height: Figure(figsize=(width / 72, height / 72), layout="constrained")


def _fill(axes: Any, panel: Panel, runs: Runs, small: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.draw(axes, runs)
    axes.xaxis.set_major_locator(MaxNLocator(3 if small else 8, integer=True))
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(4 if small else 6))
    if small:
        axes.tick_params(labelsize=8)
    else:
        axes.set_xlabel("step")
    if panel.title:
        axes.set_title(printable(panel.title), fontsize=8.5)


def _legend(figure: Any, runs: Runs) -> None:
    """Which run is which, and what the marks mean."""
    from matplotlib.lines import Line2D

    ink, handles = COLOURS["ink"][0], []
    for name, look in looks(runs).items():
        held: Any = {"color": look.ink(heldout=True), "marker": look.mark, "markersize": 4, "linestyle": "--"}
        handles.append(Line2D([], [], color=look.ink(), linewidth=1.8, label=printable(name)))
        handles.append(Line2D([], [], linewidth=0.9, label="held out", **held))
    handles.append(Line2D([], [], color=ink, marker=INCIDENT, linestyle="", markersize=5, label="incident"))
    handles.append(Line2D([], [], color=ink, linestyle=":", linewidth=0.8, label="restart"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False, fontsize=8.5)


def _as_element(document: str, label: str) -> str:
    """Matplotlib's SVG document as an element of a page, in CSS's colours."""
    box = re.search(r'viewBox="[^"]*"', document)
    assert box, "matplotlib writes a viewBox"
    inner = document[document.index(">", box.end()) + 1 :]
    # Groups have names that another figure has too; what is referred to lies in <defs> and keeps its own.
    inner = re.sub(r"\s*<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    inner = re.sub(r'<g id="[^"]*"', "<g", inner)
    for name, (colour, _) in COLOURS.items():
        inner = re.sub(rf"(fill|stroke): {colour}", rf"\1: var(--{name})", inner)
    return f'<svg {box[0]} role="img" aria-label="{html.escape(printable(label))}">{inner}'
