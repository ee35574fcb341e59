"""A plan's figures as SVG elements, in the ledger's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from koala_ray.curate.ledger_figures import LETTER, SMALL, WIDTH, Drawing
from koala_ray.plan.grids import dollars

PARTS = {
    "weights": "filter-0",
    "gradients": "filter-1",
    "optimizer": "accent",
    "activations": "filter-3",
    "logits": "filter-5",
    "buffers": "kept",
    "compute": "accent-soft",
    "exchange": "filter-3",
}
"""The colour of each part of the memory and of a step."""


def memory_figure(plan: Mapping[str, Any]) -> str:
    """For each ZeRO stage a bar of what holds memory, with a line where the device ends."""
    stages = plan["memory_gb_per_gpu"]
    longest = max(plan["gb_of_gpu"], *(sum(parts.values()) for parts in stages.values()))
    drawing = Drawing(34 + 44 * len(stages))
    _legend(drawing, list(next(iter(stages.values()))), 0)
    said, y = [], 34.0
    end = WIDTH * plan["gb_of_gpu"] / longest
    for stage, parts in stages.items():
        fits = "fits" if plan["fits"][stage] else "doesn't fit"
        recommended = ", recommended" if plan["recommended"] == int(stage) else ""
        peak = f"{plan['peak_gb_per_gpu'][stage]:.1f} GB at the peak: {fits}{recommended}"
        drawing.text(0, y + 11, f"ZeRO-{stage}", fontweight="bold")
        drawing.text(WIDTH, y + 11, peak, size=SMALL, colour="faint", ha="right")
        _stack(drawing, y + 17, [(name, size * WIDTH / longest) for name, size in parts.items()])
        drawing.bar(min(end, WIDTH - 1.5), y + 14, 1.5, 19, "ink")
        said.append(f"ZeRO-{stage}: {', '.join(f'{name} {size:.1f}' for name, size in parts.items())}; {peak}")
        y += 44
    drawing.text(min(end, WIDTH), y - 1, f"{plan['gb_of_gpu']:g} GB", size=SMALL, ha="right" if end > 60 else "left")
    return drawing.svg(f"Memory of a device in GB. {'; '.join(said)}.")


def step_figure(plan: Mapping[str, Any]) -> str:
    """A step's seconds: computing, exchanging what isn't hidden, the optimizer."""
    parts = plan["step_parts"]
    total = sum(parts.values())
    drawing = Drawing(52)
    _stack(drawing, 0, [(name, seconds * WIDTH / total) for name, seconds in parts.items()])
    _legend(drawing, list(parts), 22, {name: f"{parts[name]:.3f} s" for name in parts})
    said = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in parts.items())
    return drawing.svg(f"A step of {total:.2f} seconds: {said}.")


def money_figure(plan: Mapping[str, Any]) -> str:
    """Dollars: undisturbed, with reclaims, with one checkpoint only, on demand; a line at what Koala announced."""
    bars = [
        ("spot, undisturbed", plan["dollars"], "accent-soft"),
        ("spot, with reclaims", plan["expected_dollars_with_reclaims"], "accent"),
        ("spot, one checkpoint at the end", plan["expected_dollars_with_one_checkpoint"], "filter-5"),
        ("on demand", plan["dollars_on_demand"], "kept"),
    ]
    # A run that hardly ever ends would leave nothing to see of the others; the table has it.
    most = 10 * (plan["expected_dollars_with_reclaims"] or plan["dollars"])
    shown = [(name, value, colour) for name, value, colour in bars if value is not None and value <= most]
    announced = plan["koala_claim"]["dollars"]
    longest = max(announced, *(value for _, value, _ in shown)) * 1.02
    drawing = Drawing(38.0 * len(shown) + 16)
    y = 0.0
    for name, value, colour in shown:
        drawing.text(0, y + 11, name)
        drawing.text(WIDTH, y + 11, dollars(value), fontweight="bold", ha="right")
        drawing.bar(0, y + 16, max(1.0, WIDTH * value / longest), 13, colour)
        y += 38
    place = WIDTH * announced / longest
    for bar in range(len(shown)):
        drawing.bar(place, 38 * bar + 13, 1, 19, "ink")
    side = "right" if place > 80 else "left"
    drawing.text(place, y + 8, f"Koala's ${announced}", size=SMALL, colour="faint", ha=side)
    return drawing.svg(f"Dollars. {'; '.join(f'{name} {dollars(value)}' for name, value, _ in shown)}.")


def _stack(drawing: Drawing, y: float, parts: Sequence[tuple[str, float]]) -> None:
    x = 0.0
    for name, length in parts:
        drawing.bar(x, y, length, 13, PARTS[name])
        x += length


def _legend(drawing: Drawing, names: Sequence[str], y: float, beside: Mapping[str, str] | None = None) -> None:
    """Coloured squares with their names, in as many lines as they need."""
    x = 0.0
    for name in names:
        label = f"{name} {beside[name]}" if beside else name
        length = 24 + LETTER * SMALL * len(label)
        if x and x + length - 12 > WIDTH:
            x, y = 0.0, y + 14
        drawing.bar(x, y + 4, 7, 7, PARTS[name])
        drawing.text(x + 10, y + 11, label, size=SMALL)
        x += length
