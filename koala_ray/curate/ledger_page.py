"""The ledger as a page: where every row went, how the sources mix, and where it all came from. One file, no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koala_ray import pages
from koala_ray.curate.ledger_figures import length_bins, lengths_figure, mixture_figure, rows_figure
from koala_ray.curate.ledger_table import (
    WORDS,
    by_count,
    check,
    prompts_grid,
    repairs_grid,
    rows_grid,
    sources_of,
    tokens_grid,
)
from koala_ray.pages import Grid, compact, escaped, kind, number, percent, plural

OWN_STYLE = """
table.reasons{width:100%;margin-bottom:1.5rem} .reasons small{font-weight:400;color:var(--faint);white-space:nowrap}
.reasons tr.source th{padding-top:1rem;white-space:normal;font-size:1rem} .reasons tr.source~tr small{display:block}
.reasons tr.source~tr th{font-weight:400} .reasons td+td{width:60%}
dl.pairs{margin:.3rem 0;font-size:.88rem} .pairs dt{font-weight:600} .pairs dd{margin:0 0 .3rem 1rem}
.pairs dd{overflow-wrap:anywhere} .pairs ul{margin:0;padding-left:1rem}
"""


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
        f'<h1>{escaped(title)}</h1><p class="about">{escaped(about)}</p>{_headline(ledger)}'
        f"{_rows(ledger)}{_tokens(ledger)}{_lengths(ledger)}{_prompts(ledger)}{_provenance(provenance)}"
    )
    return pages.document(title, body, style=OWN_STYLE)


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
    return pages.headline(cards)


def _exactly(count: int) -> str:
    """The count in full, to stand before other words, where it is shown in short."""
    return f"{number(count)}, " if compact(count) != number(count) else ""


def _rows(ledger: Mapping[str, Any]) -> str:
    published = {name: entry["published"] for name, entry in sources_of(ledger)}
    figure = pages.figure("Rows by filter: the share kept, and what each filter rejected", rows_figure(ledger))
    reasons = _reasons(ledger) + pages.table(repairs_grid(ledger), WORDS)
    return (
        f"<h2>Rows</h2>{pages.table(rows_grid(ledger), WORDS)}<details><summary>What was published</summary>"
        f"{_tree(published)}</details>"
        f"<h2>What became of them</h2>{pages.beside_each_other(figure, reasons)}"
    )


def _reasons(ledger: Mapping[str, Any]) -> str:
    """The reasons by source and filter, in three columns so that a phone shows all of it."""
    groups = []
    for name, entry in sources_of(ledger):
        rejected = number(entry["rows_in"] - entry["rows_kept"])
        balance = f"{number(entry['rows_in'])} in = {number(entry['rows_kept'])} kept + {rejected} rejected"
        head = f'<th scope="rowgroup" colspan="3" class="words">{escaped(name)} <small>{balance}</small></th>'
        rows = "".join(_reasons_of(item) for item in entry["filters"])
        groups.append(f'<tbody><tr class="source">{head}</tr>{rows}</tbody>')
    head = "".join(f'<th scope="col"{kind(name, WORDS)}>{name}</th>' for name in ("filter", "rejected", "reason"))
    caption = "Why rows were rejected: filters with their rows in → rows kept"
    return f'<table class="reasons"><caption>{caption}</caption><thead><tr>{head}</tr></thead>{"".join(groups)}</table>'


def _reasons_of(item: Mapping[str, Any]) -> str:
    counted = by_count(item["rejected"])
    left = f"{number(item['rows_in'])} → {number(item['rows_kept'])}"
    name = f"{escaped(item['filter'])} <small>{left}</small>"
    head = f'<th scope="row" class="words" rowspan="{len(counted)}">{name}</th>'
    return "".join(
        f'<tr>{"" if place else head}<td>{number(count)}</td><td class="words">{escaped(reason)}</td></tr>'
        for place, (reason, count) in enumerate(counted)
    )


def _tokens(ledger: Mapping[str, Any]) -> str:
    grid = tokens_grid(ledger)
    if not grid:
        return ""
    figure = pages.figure("Mixture: shares of the rows kept and of the tokens", mixture_figure(ledger))
    note = (
        "Dialogues count the pieces of split rows and repeats, without the held-out ones. Rows split: longer than the "
        "context, now several dialogues. Rows cut: their end was left out."
    )
    text = f'{pages.table(grid, WORDS)}<p class="note">{note}</p>'
    return f"<h2>Tokens</h2>{pages.beside_each_other(figure, text)}"


def _lengths(ledger: Mapping[str, Any]) -> str:
    known = [(name, entry) for name, entry in sources_of(ledger) if entry.get("dialogues")]
    if not known:
        return ""
    bins = {name: dict(length_bins(entry)) for name, entry in known}
    labels = tuple(dict.fromkeys(label for counts in bins.values() for label in counts))
    rows = tuple((name, *(number(counts.get(label)) for label in labels)) for name, counts in bins.items())
    figure = pages.figure("Lengths: a source's dialogues by tokens, in %", lengths_figure(ledger))
    grid = pages.table(Grid("Dialogues by tokens", ("source", *labels), rows), WORDS)
    return f"<h2>Lengths</h2>{pages.beside_each_other(figure, grid)}"


def _prompts(ledger: Mapping[str, Any]) -> str:
    grid = prompts_grid(ledger)
    return f"<h2>Evaluation prompts</h2>{pages.table(grid, WORDS)}" if grid.rows else ""


def _provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    return (
        f"<h2>Where it came from</h2><details><summary>Settings, inputs, seeds</summary>{_tree(provenance)}</details>"
    )


def _tree(value: object) -> str:
    """Nested names and values as nested lists, names in order."""
    if isinstance(value, Mapping):
        pairs = "".join(f"<dt>{escaped(name)}</dt><dd>{_tree(value[name])}</dd>" for name in sorted(value, key=str))
        return f'<dl class="pairs">{pairs}</dl>' if pairs else "none"
    if isinstance(value, list | tuple):
        items = "".join(f"<li>{_tree(item)}</li>" for item in value)
        return f"<ul>{items}</ul>" if items else "none"
    return escaped("none" if value is None else value)
