"""What all pages share: the sheet, the frame, tables, and how numbers are written, which the terminal does alike.

A page is one file without scripts. Its colours are CSS variables, so that it and its figures follow the reader's light
or dark.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

NONE = "–"
"""What stands in place of a figure that isn't known."""
COLOURS = {
    "ink": ("#1c2126", "#e6e9ec"),
    "faint": ("#5c6670", "#a3adb7"),
    "line": ("#d4dae0", "#3a424b"),
    "kept": ("#d5dde5", "#4a545f"),
    "accent": ("#2f6690", "#6fb1e0"),
    "accent-soft": ("#a9cbe3", "#2f5876"),
    "filter-0": ("#332288", "#d68125"),
    "filter-1": ("#88ccee", "#a6f1d1"),
    "filter-2": ("#882255", "#9f2ae0"),
    "filter-3": ("#ddcc77", "#c7acf0"),
    "filter-4": ("#117733", "#1e9057"),
    "filter-5": ("#cc6677", "#ecc688"),
    "filter-6": ("#44aa99", "#bf27b3"),
    "filter-7": ("#aa4499", "#c0e557"),
    "filter-8": ("#999933", "#ca2432"),
    "filter-9": ("#8a1af1", "#c683a8"),
}
"""Names of CSS variables and their values in the light and in the dark. Any two of the filters' colours, and each
and that of the kept rows, differ by 15 at least (CIE 76), also for the red-, green- and blue-blind (simulated as by
Machado et al. 2009)."""
PAPER = ("#ffffff", "#16191d")
"""The page's own colour."""
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
 background:var(--page)}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .3rem} h2{font-size:1.2rem;margin:2.6rem 0 .6rem}
p{max-width:45rem} .about,.note{color:var(--faint);margin-top:0} .note{font-size:.88rem}
dl.headline{display:grid;grid-template-columns:repeat(2,1fr);gap:.7rem;margin:1.2rem 0}
.headline div{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
.headline dt,.headline .beside{font-size:.82rem;color:var(--faint)} .headline dd{margin:0}
.headline .value{font-size:1.35rem;font-weight:600;line-height:1.3;overflow-wrap:anywhere}
figure{margin:0 0 1rem;max-width:32rem} figcaption,caption{font-size:.9rem;color:var(--faint);text-align:left}
figcaption{margin-bottom:.6rem} caption{padding-bottom:.4rem} svg{display:block;width:100%;height:auto}
.wide{overflow-x:auto;margin:0 0 1rem;max-width:100%}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .8rem .3rem 0;text-align:right;vertical-align:top;white-space:nowrap}
th{font-weight:600} thead th{vertical-align:bottom;border-bottom:1px solid var(--faint);white-space:normal}
tbody tr+tr>*{border-top:1px solid var(--line)} tfoot>tr>*{border-top:1px solid var(--faint);font-weight:600}
th.words,td.words{text-align:left} td.words{white-space:normal;overflow-wrap:anywhere;min-width:6rem}
.wide tr>th:first-child{position:sticky;left:0;background:var(--page)}
li{overflow-wrap:anywhere} details{margin:1rem 0} summary{cursor:pointer;font-weight:600}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media(min-width:48rem){dl.headline{grid-template-columns:repeat(4,1fr)}}
@media(min-width:64rem){.beside-each-other>figure{position:sticky;top:1rem}
 .beside-each-other{display:grid;grid-template-columns:26rem 1fr;gap:2.5rem;align-items:start}
 .beside-each-other>*{min-width:0}}
"""


@dataclass(frozen=True)
class Grid:
    """A table ready to be shown; the terminal and the page have the same cells."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    groups: int = 0
    """How many of the first columns group rows: a cell that equals the one above is shown once."""

    def repeats(self, row: int, column: int) -> bool:
        """Whether the cell belongs to the group of the row above, and so need not be shown again."""
        until = column + 1
        return column < self.groups and row > 0 and self.rows[row][:until] == self.rows[row - 1][:until]


def document(title: str, body: str, *, style: str = "", colours: Mapping[str, tuple[str, str]] = COLOURS) -> str:
    """A whole page.

    Args:
        title: as text.
        body: as HTML, with the heading.
        style: CSS of this page alone.
        colours: CSS variables and their values in the light and in the dark.
    """
    light, dark = (
        "".join(f"--{name}:{values[place]};" for name, values in {**colours, "page": PAPER}.items()) for place in (0, 1)
    )
    root = f"\n:root{{color-scheme:light dark;{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{root}{STYLE}{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def headline(cards: Sequence[tuple[str, str, str]]) -> str:
    """The figures that people look for first: of each its name, its value, and a word beside it."""
    shown = (
        f'<div><dt>{escaped(name)}</dt><dd class="value">{escaped(value)}</dd>'
        f'<dd class="beside">{escaped(beside)}</dd></div>'
        for name, value, beside in cards
    )
    return f'<dl class="headline">{"".join(shown)}</dl>'


def figure(caption: str, svg: str) -> str:
    """A figure with its caption, which is text."""
    return f"<figure><figcaption>{escaped(caption)}</figcaption>{svg}</figure>"


def beside_each_other(figured: str, inner: str) -> str:
    """A figure with what belongs to it beside it, where there is room."""
    return f'<div class="beside-each-other">{figured}<div>{inner}</div></div>'


def table(grid: Grid, words: Set[str]) -> str:
    """A table; a cell that groups rows reaches down over them. Nothing where there is nothing to show.

    Args:
        grid: its cells, as text.
        words: headers of the columns that hold words; the others hold numbers.
    """
    if not grid.rows and not grid.total:
        return ""
    kinds = [kind(name, words) for name in grid.headers]
    head = "".join(f'<th scope="col"{own}>{escaped(name)}</th>' for name, own in zip(grid.headers, kinds, strict=True))
    rows = "".join(
        "<tr>"
        + "".join(
            _cell(cell, place, kinds[place], _height(grid, index, place))
            for place, cell in enumerate(row)
            if not grid.repeats(index, place)
        )
        + "</tr>"
        for index, row in enumerate(grid.rows)
    )
    total = "".join(_cell(cell, place, kinds[place], 1) for place, cell in enumerate(grid.total))
    foot = f"<tfoot><tr>{total}</tr></tfoot>" if grid.total else ""
    return wide(grid.caption, head, rows, foot)


def wide(caption: str, head: str, rows: str, foot: str = "") -> str:
    """A table that scrolls by itself where the page is narrower.

    Args:
        caption: as text.
        head: the headers' cells, as HTML.
        rows: the rows, as HTML.
        foot: the table's foot, as HTML.
    """
    # A region that can be scrolled must be within reach of the keyboard.
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escaped(caption)}"><table>'
        f"<caption>{escaped(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>{foot}</table></div>"
    )


def kind(header: str, words: Set[str]) -> str:
    """The attribute of a column's cells: words stand on the left."""
    return ' class="words"' if header in words else ""


def _height(grid: Grid, index: int, place: int) -> int:
    """How many rows a cell covers."""
    below = index + 1
    while below < len(grid.rows) and grid.repeats(below, place):
        below += 1
    return below - index


def _cell(cell: str, place: int, own: str, height: int) -> str:
    over = f' rowspan="{height}"' if height > 1 else ""
    if place == 0:
        return f'<th scope="{"rowgroup" if height > 1 else "row"}"{own}{over}>{escaped(cell)}</th>'
    return f"<td{own}{over}>{escaped(cell)}</td>"


def escaped(value: object) -> str:
    """A value as HTML on one line."""
    return html.escape(printable(str(value)))


def printable(text: str) -> str:
    """The text with what no terminal or page should be sent (control characters, half characters) spelled out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def number(count: int | None) -> str:
    """A count with thousands set off; a dash where there is none."""
    return NONE if count is None else f"{count:,}"


def plural(count: int, noun: str) -> str:
    """A count and what it counts."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def compact(count: int) -> str:
    """A large count in short: 12.3 M."""
    for size, letter in ((10**9, "B"), (10**6, "M")):
        if count >= size:
            return f"{count / size:,.1f} {letter}"
    return number(count)


def percent(part: int, whole: int) -> str:
    """A share in percent; never 0 or 100 for what is not none or all."""
    if not whole:
        return NONE
    share = f"{100 * part / whole:.1f}"
    if share == "0.0" and part:
        return "< 0.1 %"
    return "> 99.9 %" if share == "100.0" and part != whole else f"{share} %"
