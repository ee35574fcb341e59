"""The ledger as a page: where every row went, how the sources mix, and where it all came from. One file, no scripts."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from koala_ray.curate.ledger_figures import COLOURS, length_bins, lengths_figure, mixture_figure, rows_figure
from koala_ray.curate.ledger_table import (
    WORDS,
    Grid,
    by_count,
    check,
    compact,
    number,
    percent,
    plural,
    printable,
    prompts_grid,
    repairs_grid,
    rows_grid,
    sources_of,
    tokens_grid,
)

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
table.reasons{width:100%;margin-bottom:1.5rem} .reasons small{font-weight:400;color:var(--faint);white-space:nowrap}
.reasons tr.source th{padding-top:1rem;white-space:normal;font-size:1rem} .reasons tr.source~tr small{display:block}
.reasons tr.source~tr th{font-weight:400} .reasons td+td{width:60%}
.wide{overflow-x:auto;margin:0 0 1rem;max-width:100%}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .8rem .3rem 0;text-align:right;vertical-align:top;white-space:nowrap}
th{font-weight:600} thead th{vertical-align:bottom;border-bottom:1px solid var(--faint);white-space:normal}
tbody tr+tr>*{border-top:1px solid var(--line)} tfoot>tr>*{border-top:1px solid var(--faint);font-weight:600}
th.words,td.words{text-align:left} td.words{white-space:normal;overflow-wrap:anywhere;min-width:6rem}
.wide tr>th:first-child{position:sticky;left:0;background:var(--page)}
dl.pairs{margin:.3rem 0;font-size:.88rem} .pairs dt{font-weight:600} .pairs dd{margin:0 0 .3rem 1rem}
.pairs dd,li{overflow-wrap:anywhere} .pairs ul{margin:0;padding-left:1rem}
details{margin:1rem 0} summary{cursor:pointer;font-weight:600}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media(min-width:48rem){dl.headline{grid-template-columns:repeat(4,1fr)}}
@media(min-width:64rem){.beside-each-other>figure{position:sticky;top:1rem}
 .beside-each-other{display:grid;grid-template-columns:26rem 1fr;gap:2.5rem;align-items:start}
 .beside-each-other>*{min-width:0}}
"""
PAGE_COLOUR = ("#ffffff", "#16191d")


def page(ledger: Mapping[str, Any], title: str, provenance: Mapping[str, Any]) -> str:
    """The page as HTML; equal input gives equal text.

    Args:
        ledger: that of a curate or a tokens step; what a curate step doesn't know yet is left out.
        title: stands on top.
        provenance: names and values (also nested) of settings, inputs' hashes and seeds.

    Raises:
        ValueError: the ledger doesn't balance.
    """
    check(ledger)
    about = (
        f"{number(ledger['rows_in'])} rows in = {number(ledger['rows_kept'])} kept + "
        f"{number(ledger['rows_rejected'])} rejected, from {plural(len(ledger['sources']), 'source')}. "
        "A row is a dialogue that a raw row could give."
    )
    body = (
        f'<h1>{_text(title)}</h1><p class="about">{_text(about)}</p>{_headline(ledger)}'
        f"{_rows(ledger)}{_tokens(ledger)}{_lengths(ledger)}{_prompts(ledger)}{_provenance(provenance)}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_colours()}{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _colours() -> str:
    light, dark = (
        "".join(f"--{name}:{values[place]};" for name, values in {**COLOURS, "page": PAGE_COLOUR}.items())
        for place in (0, 1)
    )
    return f"\n:root{{color-scheme:light dark;{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _headline(ledger: Mapping[str, Any]) -> str:
    """The figures that people look for first, each with a word beside it."""
    rows_in = ledger["rows_in"]
    cards = [
        ("rows in", number(rows_in), f"from {plural(len(ledger['sources']), 'source')}"),
        ("rows kept", number(ledger["rows_kept"]), percent(ledger["rows_kept"], rows_in)),
        ("rows rejected", number(ledger["rows_rejected"]), percent(ledger["rows_rejected"], rows_in)),
    ]
    if "tokens" in ledger:
        heldout, learnt = ledger["heldout"], ledger["learnt_tokens"]
        full = f"of {plural(ledger['context'], 'token')}, {100 * ledger['fill']:.1f} % full"
        beside = f"{plural(heldout['tokens'], 'token')}, {number(heldout['learnt_tokens'])} learnt"
        cards += [
            ("tokens", compact(ledger["tokens"]), _exactly(ledger["tokens"]) + "in each epoch"),
            ("tokens learnt", compact(learnt), _exactly(learnt) + percent(learnt, ledger["tokens"])),
            ("packed rows", number(ledger["packs"]), full),
            ("dialogues held out", number(heldout["dialogues"]), f"{beside}, {plural(heldout['packs'], 'packed row')}"),
            ("base model", ledger["base"], f"to train for {plural(ledger['epochs'], 'epoch')}"),
        ]
    shown = (
        f'<div><dt>{_text(name)}</dt><dd class="value">{_text(value)}</dd><dd class="beside">{_text(beside)}</dd></div>'
        for name, value, beside in cards
    )
    return f'<dl class="headline">{"".join(shown)}</dl>'


def _exactly(count: int) -> str:
    """The count in full, to stand before other words, where it is shown in short."""
    return f"{number(count)}, " if compact(count) != number(count) else ""


def _rows(ledger: Mapping[str, Any]) -> str:
    published = {name: entry["published"] for name, entry in sources_of(ledger)}
    repairs = repairs_grid(ledger)
    figure = _figure("Rows by filter: the share kept, and what each filter rejected", rows_figure(ledger))
    return (
        f"<h2>Rows</h2>{_grid(rows_grid(ledger))}<details><summary>What was published</summary>"
        f"{_tree(published)}</details>"
        f'<h2>What became of them</h2><div class="beside-each-other">{figure}<div>'
        f"{_reasons(ledger)}{_grid(repairs) if repairs.rows else ''}</div></div>"
    )


def _reasons(ledger: Mapping[str, Any]) -> str:
    """The reasons by source and filter, in three columns so that a phone shows all of it."""
    groups = []
    for name, entry in sources_of(ledger):
        rejected = number(entry["rows_in"] - entry["rows_kept"])
        balance = f"{number(entry['rows_in'])} in = {number(entry['rows_kept'])} kept + {rejected} rejected"
        head = f'<th scope="rowgroup" colspan="3" class="words">{_text(name)} <small>{balance}</small></th>'
        rows = "".join(_reasons_of(item) for item in entry["filters"])
        groups.append(f'<tbody><tr class="source">{head}</tr>{rows}</tbody>')
    head = "".join(f'<th scope="col"{_kind(name)}>{name}</th>' for name in ("filter", "rejected", "reason"))
    caption = "Why rows were rejected: filters with their rows in → rows kept"
    return f'<table class="reasons"><caption>{caption}</caption><thead><tr>{head}</tr></thead>{"".join(groups)}</table>'


def _reasons_of(item: Mapping[str, Any]) -> str:
    counted = by_count(item["rejected"])
    left = f"{number(item['rows_in'])} → {number(item['rows_kept'])}"
    head = f'<th scope="row" class="words" rowspan="{len(counted)}">{_text(item["filter"])} <small>{left}</small></th>'
    return "".join(
        f'<tr>{"" if place else head}<td>{number(count)}</td><td class="words">{_text(reason)}</td></tr>'
        for place, (reason, count) in enumerate(counted)
    )


def _tokens(ledger: Mapping[str, Any]) -> str:
    grid = tokens_grid(ledger)
    if not grid:
        return ""
    figure = _figure("Mixture: shares of the rows kept and of the tokens", mixture_figure(ledger))
    note = (
        "Dialogues count the pieces of split rows and repeats, without the held-out ones. Rows split: longer than the "
        "context, now several dialogues. Rows cut: their end was left out."
    )
    text = f'{_grid(grid)}<p class="note">{note}</p>'
    return f'<h2>Tokens</h2><div class="beside-each-other">{figure}<div>{text}</div></div>'


def _lengths(ledger: Mapping[str, Any]) -> str:
    known = [(name, entry) for name, entry in sources_of(ledger) if entry.get("dialogues")]
    if not known:
        return ""
    bins = {name: dict(length_bins(entry)) for name, entry in known}
    labels = tuple(dict.fromkeys(label for counts in bins.values() for label in counts))
    rows = tuple((name, *(number(counts.get(label)) for label in labels)) for name, counts in bins.items())
    figure = _figure("Lengths: a source's dialogues by tokens, in %", lengths_figure(ledger))
    grid = _grid(Grid("Dialogues by tokens", ("source", *labels), rows))
    return f'<h2>Lengths</h2><div class="beside-each-other">{figure}<div>{grid}</div></div>'


def _prompts(ledger: Mapping[str, Any]) -> str:
    grid = prompts_grid(ledger)
    return f"<h2>Evaluation prompts</h2>{_grid(grid)}" if grid.rows else ""


def _provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    return (
        f"<h2>Where it came from</h2><details><summary>Settings, inputs, seeds</summary>{_tree(provenance)}</details>"
    )


def _figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{_text(caption)}</figcaption>{svg}</figure>"


def _grid(grid: Grid) -> str:
    """A table; a cell that groups rows reaches down over them."""
    rows = "".join(
        "<tr>"
        + "".join(
            _cell(grid, place, cell, _height(grid, index, place))
            for place, cell in enumerate(row)
            if not grid.repeats(index, place)
        )
        + "</tr>"
        for index, row in enumerate(grid.rows)
    )
    head = "".join(f'<th scope="col"{_kind(name)}>{_text(name)}</th>' for name in grid.headers)
    total = "".join(_cell(grid, place, cell, 1) for place, cell in enumerate(grid.total))
    foot = f"<tfoot><tr>{total}</tr></tfoot>" if grid.total else ""
    # A region that can be scrolled must be within reach of the keyboard.
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{_text(grid.caption)}"><table>'
        f"<caption>{_text(grid.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>{foot}</table></div>"
    )


def _height(grid: Grid, index: int, place: int) -> int:
    """How many rows a cell covers."""
    below = index + 1
    while below < len(grid.rows) and grid.repeats(below, place):
        below += 1
    return below - index


def _cell(grid: Grid, place: int, cell: str, height: int) -> str:
    over = f' rowspan="{height}"' if height > 1 else ""
    kind = _kind(grid.headers[place])
    if place == 0:
        return f'<th scope="{"rowgroup" if height > 1 else "row"}"{kind}{over}>{_text(cell)}</th>'
    return f"<td{kind}{over}>{_text(cell)}</td>"


def _kind(header: str) -> str:
    return ' class="words"' if header in WORDS else ""


def _tree(value: object) -> str:
    """Nested names and values as nested lists, names in order."""
    if isinstance(value, Mapping):
        pairs = "".join(f"<dt>{_text(name)}</dt><dd>{_tree(value[name])}</dd>" for name in sorted(value, key=str))
        return f'<dl class="pairs">{pairs}</dl>' if pairs else "none"
    if isinstance(value, list | tuple):
        items = "".join(f"<li>{_tree(item)}</li>" for item in value)
        return f"<ul>{items}</ul>" if items else "none"
    return _text("none" if value is None else value)


def _text(value: object) -> str:
    return html.escape(printable(str(value)))
