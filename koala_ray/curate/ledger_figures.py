"""The ledger's figures as SVG elements to stand in a page, which gives them their colours."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from koala_ray.curate.ledger_table import sources_of
from koala_ray.pages import COLOURS, compact, number, percent, plural, printable

WIDTH = 360
"""Points: about a phone's width, so that texts stay readable there; a wide page shows two things side by side."""
TEXT, SMALL, TINY = 12.0, 10.0, 8.5
LETTER = 0.62
"""An estimate of a letter's width in its height: where texts stand must not depend on the fonts that are there."""
FILTER_COLOURS = sum(name.startswith("filter-") for name in COLOURS)


@dataclass
class Drawing:
    """Bars and texts at places given in points from the upper left corner."""

    height: float
    bars: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    texts: list[tuple[float, float, str, dict[str, Any]]] = field(default_factory=list)

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle; ``x`` and ``y`` are its upper left corner."""
        self.bars.append((x, y, width, height, COLOURS[colour][0]))

    def text(self, x: float, y: float, text: str, *, size: float = TEXT, colour: str = "ink", **style: Any) -> None:
        """A text whose foot stands at ``y``."""
        self.texts.append((x, y, printable(text), {"fontsize": size, "color": COLOURS[colour][0], **style}))

    def svg(self, label: str) -> str:
        """The drawing as an SVG element that says ``label`` to those who can't see it; equal drawings, equal text."""
        import matplotlib
        from matplotlib import style
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "koala-ray", "font.sans-serif": ["DejaVu Sans"]}
        buffer = io.StringIO()
        # "default": a user's own matplotlibrc must not change the bytes.
        with style.context("default"), matplotlib.rc_context(settings):
            height = max(self.height, 1)
            figure = Figure(figsize=(WIDTH / 72, height / 72))
            axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
            axes.set_axis_off()
            for x, y, width, thick, colour in self.bars:
                axes.add_patch(Rectangle((x, y), width, thick, color=colour, linewidth=0, clip_on=False))
            for x, y, text, look in self.texts:
                axes.text(x, y, text, va="baseline", parse_math=False, **look)
            nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
        return _as_element(buffer.getvalue(), label)


def _as_element(document: str, label: str) -> str:
    """Matplotlib's SVG document as an element of a page: without ids that another figure has too, in CSS's colours."""
    box = re.search(r'viewBox="[^"]*"', document)
    assert box, "matplotlib writes a viewBox"
    inner = document[document.index(">", box.end()) + 1 :]
    inner = re.sub(r'\s*<(defs|metadata)>.*?</\1>| id="[^"]*"', "", inner, flags=re.DOTALL)
    for name, (colour, _) in COLOURS.items():
        inner = inner.replace(f"fill: {colour}", f"fill: var(--{name})")
    return f'<svg {box[0]} role="img" aria-label="{html.escape(printable(label))}">{inner}'


def rows_figure(ledger: Mapping[str, Any]) -> str:
    """For each source a bar of its rows: kept, then what each filter rejected, with the counts below."""
    colours = _filter_colours(ledger)
    blocks = []
    for name, entry in sources_of(ledger):
        parts = [("kept", "kept", entry["rows_kept"])]
        for item in entry["filters"]:
            parts.append((item["filter"], colours[item["filter"]], sum(item["rejected"].values())))
        parts = [part for part in parts if part[2]]
        lines = list(_flow([(f"{label} {number(count)}", colour) for label, colour, count in parts]))
        blocks.append((name, entry, parts, lines))
    drawing = Drawing(sum(40 + 14 * len(lines) for *_, lines in blocks))
    said, y = [], 0.0
    for name, entry, parts, lines in blocks:
        share = f"{percent(entry['rows_kept'], entry['rows_in'])} of {plural(entry['rows_in'], 'row')} kept"
        share = share if entry["rows_in"] else "no rows"
        drawing.text(0, y + 11, _short(name, 20), fontweight="bold")
        drawing.text(WIDTH, y + 11, share, size=SMALL, colour="faint", ha="right")
        x = 0.0
        drawing.bar(0, y + 17, WIDTH, 0.8, "line")
        for _, colour, count in parts:
            width = WIDTH * count / entry["rows_in"]
            drawing.bar(x, y + 17, width, 13, colour)
            x += width
        for place, line in enumerate(lines):
            for left, text, colour in line:
                drawing.bar(left, y + 36 + 14 * place, 7, 7, colour)
                drawing.text(left + 10, y + 43 + 14 * place, text, size=SMALL)
        said.append(f"{name}: {', '.join(f'{label} {number(count)}' for label, _, count in parts) or 'no rows'}")
        y += 40 + 14 * len(lines)
    return drawing.svg(f"Rows kept and rejected by each filter. {'; '.join(said)}.")


def mixture_figure(ledger: Mapping[str, Any]) -> str:
    """For each source its share of the rows kept above its share of the tokens, of which a part is learnt."""
    entries = sources_of(ledger)
    rows, tokens = (sum(entry[key] for _, entry in entries) for key in ("rows_kept", "tokens"))
    shares = [
        (entry["rows_kept"] / rows if rows else 0.0, entry["tokens"] / tokens if tokens else 0.0)
        for _, entry in entries
    ]
    longest = max((max(pair) for pair in shares), default=0.0) or 1.0
    drawing = Drawing(26 + 38 * len(entries))
    x = 0.0
    for colour, label in (("kept", "rows kept"), ("accent", "tokens learnt"), ("accent-soft", "tokens only read")):
        drawing.bar(x, 4, 7, 7, colour)
        drawing.text(x + 10, 11, label, size=SMALL)
        x += 24 + _width(label)
    left, room = 80.0, 135.0
    said, y = [], 26.0
    for (name, entry), (of_rows, of_tokens) in zip(entries, shares, strict=True):
        drawing.text(0, y + 19, _short(name, 10), fontweight="bold")
        ends = [room * of_rows / longest, room * of_tokens / longest]
        learnt = ends[1] * entry["learnt_tokens"] / entry["tokens"] if entry["tokens"] else 0.0
        drawing.bar(left, y + 2, ends[0], 11, "kept")
        drawing.bar(left, y + 15, ends[1], 11, "accent-soft")
        drawing.bar(left, y + 15, learnt, 11, "accent")
        drawing.bar(left - 1, y + 1, 1, 26, "line")
        of_rows_said = f"{percent(entry['rows_kept'], rows)} · {compact(entry['rows_kept'])} rows"
        of_tokens_said = f"{percent(entry['tokens'], tokens)} · {compact(entry['tokens'])} tokens"
        drawing.text(left + ends[0] + 5, y + 11, of_rows_said, size=SMALL, colour="faint")
        drawing.text(left + ends[1] + 5, y + 24, of_tokens_said, size=SMALL)
        said.append(f"{name}: {of_rows_said}, {of_tokens_said}, {compact(entry['learnt_tokens'])} learnt")
        y += 38
    return drawing.svg(f"Each source's share of rows and of tokens. {'; '.join(said)}.")


def lengths_figure(ledger: Mapping[str, Any]) -> str:
    """For each source how its dialogues are spread over lengths in tokens; the bins are equally wide, not in tokens."""
    entries = [(name, entry) for name, entry in sources_of(ledger) if entry["dialogues"]]
    drawing = Drawing(16 + 78 * len(entries))
    said, y = [], 0.0
    for name, entry in entries:
        bins = length_bins(entry)
        room = WIDTH / len(bins)
        tallest = max(count for _, count in bins)
        drawing.text(0, y + 11, _short(name, 20), fontweight="bold")
        drawing.text(WIDTH, y + 11, plural(entry["dialogues"], "dialogue"), size=SMALL, colour="faint", ha="right")
        for place, (label, count) in enumerate(bins):
            height = 30 * count / tallest if tallest else 0.0
            middle = room * (place + 0.5)
            drawing.bar(room * place + 1, y + 58 - height, room - 2, height, "accent")
            if room > 28:
                share = percent(count, entry["dialogues"]).removesuffix(" %") if count else ""
                drawing.text(middle, y + 55 - height, share, size=TINY, colour="faint", ha="center")
            if place % (1 + int(34 // room)) == 0:
                drawing.text(room * place, y + 69, label.split("–")[0], size=TINY, colour="faint")
        drawing.bar(0, y + 58, WIDTH, 0.8, "line")
        said.append(f"{name}: {', '.join(f'{label} tokens {number(count)}' for label, count in bins if count)}")
        y += 78
    drawing.text(0, y + 8, "tokens in a dialogue, from …", size=SMALL, colour="faint")
    return drawing.svg(f"Dialogues by length. {'; '.join(said)}.")


def length_bins(entry: Mapping[str, Any]) -> list[tuple[str, int]]:
    """A source's lengths as ranges of tokens in words and the dialogues in them; the last is open."""
    borders, counts = entry["lengths"]["borders"], entry["lengths"]["dialogues"]
    names = [f"{number(low)}–{number(high - 1)}" for low, high in pairwise(borders)]
    return list(zip([*names, f"{number(borders[-1])}+"], counts, strict=True))


def _filter_colours(ledger: Mapping[str, Any]) -> dict[str, str]:
    """A colour for each filter by its place in the walk, whether or not it rejected anything."""
    names = dict.fromkeys(item["filter"] for _, entry in sources_of(ledger) for item in entry["filters"])
    return {name: f"filter-{place % FILTER_COLOURS}" for place, name in enumerate(names)}


def _flow(items: list[tuple[str, str]]) -> Iterator[list[tuple[float, str, str]]]:
    """Legend items in lines no wider than the drawing: each with its place from the left, text and colour."""
    line: list[tuple[float, str, str]] = []
    x = 0.0
    for text, colour in items:
        text = _short(text, 50)
        if line and x + 10 + _width(text) > WIDTH:
            yield line
            line, x = [], 0.0
        line.append((x, text, colour))
        x += 22 + _width(text)
    if line:
        yield line


def _width(text: str) -> float:
    return LETTER * SMALL * len(text)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
