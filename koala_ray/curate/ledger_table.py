"""What a ledger shows of itself: its tables, cell by cell, and their form in a terminal."""

from __future__ import annotations

import io
import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Any

from koala_ray.pages import NONE, Grid, number, percent, plural, printable
from koala_ray.recipe import SOURCE_NAMES

WORDS = frozenset({"source", "filter", "reason", "repair", "prompt set"})
"""Headers of the columns that hold words; the others hold numbers."""


def check(ledger: Mapping[str, Any]) -> None:
    """Make sure that rows in = rows kept + rows rejected: in every filter, from filter to filter, and in all.

    Where there are tokens, the sources' add up to all of them, and every dialogue has its length.

    Raises:
        ValueError: they are not; names the source and the filter.
    """
    for name, entry in ledger["sources"].items():
        left, reasons = entry["rows_in"], Counter[str]()
        for item in entry["filters"]:
            where = f"{name}, filter {item['filter']}"
            if item["rows_in"] != left:
                raise ValueError(f"{where}: {item['rows_in']} rows came in, {left} were left before it")
            _check_sum(where, item["rows_in"], item["rows_kept"], item["rejected"])
            left = item["rows_kept"]
            reasons.update(item["rejected"])
        _check_sum(f"{name}, all filters", entry["rows_in"], entry["rows_kept"], entry["rejected"])
        if entry["filters"] and reasons != Counter(entry["rejected"]):
            raise ValueError(f"{name}, all filters: the filters' reasons and the source's differ")
        if "tokens" in ledger:
            _check_equal(f"{name}, dialogues", entry["dialogues"], sum(entry["lengths"]["dialogues"]))
    for key in ("rows_in", "rows_kept", "tokens", "learnt_tokens"):
        if key in ledger:
            _check_equal(f"all sources, {key}", ledger[key], sum(entry[key] for entry in ledger["sources"].values()))
    _check_equal("all sources, rows_rejected", ledger["rows_rejected"], ledger["rows_in"] - ledger["rows_kept"])


def _check_sum(where: str, rows_in: int, kept: int, rejected: Mapping[str, int]) -> None:
    if min(rows_in, kept, *rejected.values()) < 0:
        raise ValueError(f"{where}: a count below zero")
    if rows_in != kept + sum(rejected.values()):
        raise ValueError(f"{where}: {rows_in} rows in, but {kept} kept and {sum(rejected.values())} rejected")


def _check_equal(where: str, total: int, found: int) -> None:
    if total != found:
        raise ValueError(f"{where}: {total} in all, but the parts add up to {found}")


def sources_of(ledger: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The sources' names and entries in the project's order, unknown ones by name after them."""
    known = {name: place for place, name in enumerate(SOURCE_NAMES)}
    return sorted(ledger["sources"].items(), key=lambda item: (known.get(item[0], len(known)), item[0]))


def by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names and counts, the largest first; without those that count nothing."""
    return sorted(((name, n) for name, n in counts.items() if n), key=lambda item: (-item[1], item[0]))


def rows_grid(ledger: Mapping[str, Any]) -> Grid:
    """Rows by source, in = kept + rejected, beside the published counts."""
    entries = sources_of(ledger)

    def cells(name: str, entry: Mapping[str, Any], rejected: int) -> tuple[str, ...]:
        counts = (number(entry["rows_in"]), number(entry["rows_kept"]), number(rejected))
        published, kept = entry["published_rows"], entry["published_kept"]
        beside = (number(published), deviation(entry["rows_in"], published))
        return (name, *counts, *beside, number(kept), deviation(entry["rows_kept"], kept))

    rows = (cells(name, entry, sum(entry["rejected"].values())) for name, entry in entries)
    published = [entry["published_rows"] for _, entry in entries]
    total = {
        "rows_in": ledger["rows_in"],
        "rows_kept": ledger["rows_kept"],
        "published_rows": None if None in published else sum(published),
        "published_kept": None,
    }
    return Grid(
        "Rows by source: in = kept + rejected",
        ("source", "rows in", "kept", "rejected", "published", "off by", "published kept", "off by"),
        tuple(rows),
        cells("all", total, ledger["rows_rejected"]),
    )


def tokens_grid(ledger: Mapping[str, Any]) -> Grid | None:
    """Dialogues and tokens by source, where the ledger has them."""
    if "tokens" not in ledger:
        return None
    keys = ("dialogues", "split", "cut", "tokens", "learnt_tokens")
    sums = {key: sum(entry[key] for _, entry in sources_of(ledger)) for key in (*keys, "rows_kept")}

    def cells(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
        shares = (percent(entry[key], sums[key]) for key in ("tokens", "rows_kept"))
        return (name, *(number(entry[key]) for key in keys), *shares)

    return Grid(
        "Tokens by source",
        ("source", "dialogues", "split", "cut", "tokens", "learnt tokens", "share of tokens", "share of rows"),
        tuple(cells(name, entry) for name, entry in sources_of(ledger)),
        cells("all", sums),
    )


def reasons_grid(ledger: Mapping[str, Any]) -> Grid:
    """Each filter that rejected rows: how many came in, how many it kept, and for what reasons it rejected."""
    rows = [
        (name, item["filter"], number(item["rows_in"]), number(item["rows_kept"]), number(count), reason)
        for name, entry in sources_of(ledger)
        for item in entry["filters"]
        for reason, count in by_count(item["rejected"])
    ]
    headers = ("source", "filter", "rows in", "kept", "rejected", "reason")
    return Grid("Why rows were rejected", headers, tuple(rows), groups=4)


def repairs_grid(ledger: Mapping[str, Any]) -> Grid:
    """What was mended in kept rows; a row may be mended in several ways."""
    rows = [
        (name, number(count), repair)
        for name, entry in sources_of(ledger)
        for repair, count in by_count(entry["repaired"])
    ]
    return Grid("What was repaired", ("source", "rows", "repair"), tuple(rows), groups=1)


def prompts_grid(ledger: Mapping[str, Any]) -> Grid:
    """The prompt sets that rows were compared with, and how many of their prompts a row came too close to."""
    rows = [
        (
            name,
            number(entry["prompts"]),
            number(entry["contaminated"]),
            percent(entry["contaminated"], entry["prompts"]),
        )
        for name, entry in sorted(ledger.get("prompts", {}).items())
    ]
    headers = ("prompt set", "prompts", "met", "share")
    return Grid("Evaluation prompts that rows came too close to", headers, tuple(rows))


def packing(ledger: Mapping[str, Any]) -> str:
    """A sentence on the packed rows and the held-out set, where the ledger has them."""
    if "tokens" not in ledger:
        return ""
    heldout = ledger["heldout"]
    return (
        f"{number(ledger['tokens'])} tokens to train on, {number(ledger['learnt_tokens'])} of them learnt, in "
        f"{number(ledger['packs'])} packed rows of {number(ledger['context'])} that are {100 * ledger['fill']:.1f} % "
        f"full; {plural(ledger['epochs'], 'epoch')}. Held out: {plural(heldout['dialogues'], 'dialogue')}, "
        f"{number(heldout['tokens'])} tokens, {number(heldout['learnt_tokens'])} learnt."
    )


def table(ledger: Mapping[str, Any]) -> str:
    """The ledger for a terminal, as wide as that is and 100 columns where there is none.

    Raises:
        ValueError: the ledger doesn't balance.
    """
    check(ledger)
    width = shutil.get_terminal_size((100, 24)).columns
    grids = (rows_grid, tokens_grid, reasons_grid, repairs_grid, prompts_grid)
    parts = [_rendered(grid, width) for grid in (make(ledger) for make in grids) if grid and grid.rows]
    if sentence := packing(ledger):
        parts.append(_lines(sentence, width))
    return "\n\n".join(parts)


def _rendered(grid: Grid, width: int) -> str:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), show_footer=bool(grid.total))
    needed = 1  # the edge
    columns = zip(*grid.rows, *((grid.total,) if grid.total else ()), strict=True)
    for place, (header, cells) in enumerate(zip(grid.headers, columns, strict=True)):
        words, longest = header in WORDS, max(map(len, cells))
        # A column of numbers is as narrow as they are and never folded; its header gives way.
        narrowest = max(min(longest, 20) if words else longest, *map(len, header.split()))
        shown.add_column(
            Text(textwrap.fill(header, narrowest)),
            Text(printable(grid.total[place])) if grid.total else "",
            justify="left" if words else "right",
            overflow="fold",
            no_wrap=not words,
            min_width=narrowest,
        )
        needed += narrowest + 2
    for index, row in enumerate(grid.rows):
        shown.add_row(*(Text("" if grid.repeats(index, place) else printable(cell)) for place, cell in enumerate(row)))
    # In a narrower terminal its lines are broken by the terminal rather than digits lost here.
    return f"{grid.caption}\n{_lines(shown, max(width, needed))}"


def _lines(shown: Any, width: int) -> str:
    """What rich makes of a table or text, as plain lines."""
    from rich.console import Console

    console = Console(file=io.StringIO(), color_system=None, force_terminal=False, width=width, legacy_windows=False)
    with console.capture() as captured:
        console.print(shown, markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def deviation(found: int, published: int | None) -> str:
    """By how much a count is above or below the published one, in percent of it; never −100 for what is not none."""
    if not published:
        return NONE
    change = round(100 * (found / published - 1), 1)
    if change == -100 and found:
        return "< −99.9 %"
    return f"{change:+,.1f} %".replace("-", "−") if change else "0.0 %"
