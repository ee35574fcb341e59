"""What is drawn: each panel puts one figure of all runs on matplotlib axes; picture and page lay the panels out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from koala_ray.pages import COLOURS as HOUSE_COLOURS
from koala_ray.train.curves.runs import Points, Record, Runs, groups, of_kind, points, smoothed, speed, thin

RUN_COLOURS = {
    "run-0": ("#0072b2", "#56b4e9"),
    "run-1": ("#d55e00", "#ff8c42"),
    "run-2": ("#00a36c", "#a6f1d1"),
    "run-3": ("#8800ee", "#aa22ee"),
    "run-4": ("#660044", "#ee0044"),
    "run-5": ("#004400", "#ee4488"),
}
"""Names of CSS variables and their values in the light and in the dark. Any two differ by 15 at least (CIE 76), also
for the red-, green- and blue-blind (simulated as by Machado et al. 2009), and stand out from the page by 3 : 1."""
COLOURS = {**{name: HOUSE_COLOURS[name] for name in ("ink", "faint", "line")}, **RUN_COLOURS}
MARKS = "osD^Pv"
"""The held-out marks of the runs, which tell them apart without colour."""
INCIDENT = "X"
SHORTEST_WAIT = 1e-3
"""Seconds; what is shorter costs nothing and is left out of the waits."""


@dataclass(frozen=True)
class Look:
    """How a run is drawn."""

    colour: str
    """A name of :data:`COLOURS`."""
    heldout: str
    """The same for its held-out losses."""
    mark: str

    def ink(self, heldout: bool = False) -> str:
        """The colour's value in the light."""
        return COLOURS[self.heldout if heldout else self.colour][0]


def looks(runs: Runs) -> dict[str, Look]:
    """A look for each run; a single run's held-out losses have a colour of their own."""
    found = {}
    for place, name in enumerate(runs):
        colour = f"run-{place % len(RUN_COLOURS)}"
        mark = MARKS[(place + place // len(RUN_COLOURS)) % len(MARKS)]
        found[name] = Look(colour, colour if len(runs) > 1 else "run-1", mark)
    return found


@dataclass(frozen=True)
class Panel:
    """One figure: its title, which says what the lines are, and what draws it."""

    title: str
    draw: Callable[[Any, Runs], None]


def loss(axes: Any, runs: Runs) -> None:
    """Training loss, raw and smoothed, held-out loss, incidents and restarts."""
    shown: list[float] = []
    for look, records in zip(looks(runs).values(), runs.values(), strict=True):
        each = points(of_kind(records, "step"), "loss")
        mean = each[0], smoothed(each[1])
        heldout = points(of_kind(records, "evaluation"), "heldout_loss")
        axes.plot(*thin(each), color=look.ink(), alpha=0.3, linewidth=0.7)
        axes.plot(*thin(mean), color=look.ink(), linewidth=1.6)
        _heldout(axes, heldout, look)
        for start in of_kind(records, "start")[1:]:
            axes.axvline(start["step"], color=COLOURS["faint"][0], linewidth=0.8, linestyle=":")
        _incidents(axes, records, look)
        if len(each[1]):
            # Nearly all steps: a spike would flatten the rest, and its incident is marked at the edge.
            shown += [each[1].min(), np.quantile(each[1], 0.95), mean[1].max()]
        shown += list(heldout[1])
    if shown:
        room = 0.08 * (max(shown) - min(shown)) or 0.1
        axes.set_ylim(min(shown) - room, max(shown) + 2 * room)


def learning_rate(axes: Any, runs: Runs) -> None:
    """The learning rate of each step."""
    for look, steps in _steps(runs):
        axes.plot(*thin(points(steps, "lr")), color=look.ink(), linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))


def gradient_norm(axes: Any, runs: Runs) -> None:
    """The gradient's norm before clipping, raw and smoothed, with the incidents."""
    for (look, steps), records in zip(_steps(runs), runs.values(), strict=True):
        each = points(steps, "grad_norm")
        axes.plot(*thin(each), color=look.ink(), alpha=0.3, linewidth=0.7)
        axes.plot(*thin((each[0], smoothed(each[1]))), color=look.ink(), linewidth=1.4)
        _incidents(axes, records, look)
    _logarithmic(axes)


def tokens_per_second(axes: Any, runs: Runs) -> None:
    """Tokens per second of each step, raw and smoothed."""
    for look, steps in _steps(runs):
        each = speed(steps)
        axes.plot(*thin(each), color=look.ink(), alpha=0.3, linewidth=0.7)
        axes.plot(*thin((each[0], smoothed(each[1]))), color=look.ink(), linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, place: f"{value:,.0f}")


def waits(axes: Any, runs: Runs) -> None:
    """The seconds of each step beside those that it waited for rows and for the last checkpoint."""
    for look, steps in _steps(runs):
        axes.plot(*thin(points(steps, "seconds")), color=look.ink(), linewidth=1.4)
        axes.plot(*thin(_positive(points(steps, "data_wait"))), color=look.ink(), alpha=0.4, linewidth=0.7)
        stalls = thin(_positive(points(steps, "checkpoint_stall")))
        axes.plot(*stalls, look.mark, color=look.ink(), markersize=3.5, markerfacecolor="none")
    _logarithmic(axes)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], SHORTEST_WAIT))


LOSS = Panel("Loss per learnt token: each step (faint), smoothed (bold), held out (marks)", loss)
COURSE = (
    Panel("Learning rate", learning_rate),
    Panel("Gradient norm before clipping: each step (faint), smoothed (bold)", gradient_norm),
    Panel("Tokens per second: each step (faint), smoothed (bold)", tokens_per_second),
    Panel("Seconds: a step (bold), its wait for rows (faint), checkpoints (marks)", waits),
)


def group_panels(runs: Runs) -> list[Panel]:
    """A small panel for each source and marker; the same height is the same change of loss in all of them."""
    found = {name: groups(of_kind(records, "evaluation")) for name, records in runs.items()}
    names = sorted({group for of_run in found.values() for group in of_run})
    bounds = {
        group: (
            min(of_run[group][1].min() for of_run in found.values() if group in of_run),
            max(of_run[group][1].max() for of_run in found.values() if group in of_run),
        )
        for group in names
    }
    span = 1.15 * max((high - low for low, high in bounds.values()), default=0.0) or 0.1

    def panel(group: str) -> Panel:
        def draw(axes: Any, runs: Runs) -> None:
            for name, look in looks(runs).items():
                if group in found[name]:
                    _heldout(axes, found[name][group], look)
            middle = sum(bounds[group]) / 2
            axes.set_ylim(middle - span / 2, middle + span / 2)

        return Panel(group, draw)

    return [panel(group) for group in names]


def _steps(runs: Runs) -> Iterator[tuple[Look, list[Record]]]:
    for look, records in zip(looks(runs).values(), runs.values(), strict=True):
        yield look, of_kind(records, "step")


def _heldout(axes: Any, series: Points, look: Look) -> None:
    axes.plot(*thin(series), f"{look.mark}--", color=look.ink(heldout=True), markersize=3.5, linewidth=0.9)


def _incidents(axes: Any, records: Sequence[Record], look: Look) -> None:
    """A cross at the upper edge for each incident."""
    steps = [record["step"] for record in of_kind(records, "incident")]
    if not steps:
        return
    edge = axes.get_xaxis_transform()
    axes.plot(
        steps,
        [0.97] * len(steps),
        INCIDENT,
        transform=edge,
        color=look.ink(),
        markeredgecolor=COLOURS["ink"][0],
        markersize=6,
        markeredgewidth=0.7,
        clip_on=False,
    )


def _positive(series: Points) -> Points:
    there = series[1] > 0
    return series[0][there], series[1][there]


def _logarithmic(axes: Any) -> None:
    """A logarithmic axis where there is anything to put on it; over less than a decade its ticks are plain numbers."""
    values = [value for line in axes.get_lines() if line.get_marker() != INCIDENT for value in line.get_ydata()]
    positive = [value for value in values if value > 0]
    if not positive:
        return
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    low, high = min(positive), max(positive)
    decades = np.log10(high / low)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
