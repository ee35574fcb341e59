from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import EVIL, koala, ledger, ledgers, source

from koala_ray.curate.ledger_table import (
    check,
    deviation,
    reasons_grid,
    rows_grid,
    sources_of,
    table,
    tokens_grid,
)


def at_width(monkeypatch: pytest.MonkeyPatch, width: int, made: dict[str, Any]) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    return table(made).splitlines()


def line_of(lines: list[str], start: str) -> list[str]:
    return next(re.split(r"  +", line.strip()) for line in lines if line.strip().startswith(start))


@settings(deadline=None)
@given(ledgers())
def test_a_balanced_ledger_passes(made: dict[str, Any]) -> None:
    check(made)
    check(json.loads(json.dumps(made)))


@settings(deadline=None)
@given(st.data())
def test_one_count_off_anywhere_does_not_pass(data: st.DataObject) -> None:
    made = koala()
    entry = made["sources"]["hc3"]
    places = [made, entry, made["sources"]["alpaca"], *entry["filters"], entry["rejected"]]
    places += [item["rejected"] for item in entry["filters"] if item["rejected"]]
    place = data.draw(st.sampled_from(places))
    rows = ("rows_in", "rows_kept", "rows_rejected")
    key = data.draw(st.sampled_from([key for key in place if key in rows or place.get("rows_in") is None]))
    place[key] += data.draw(st.integers(-(10**6), 10**6).filter(bool))
    with pytest.raises(ValueError, match=r"hc3|alpaca|all sources"):
        check(made)


def off_in_filter(made: dict[str, Any]) -> None:
    made["sources"]["hc3"]["filters"][4]["rejected"]["not English: de"] += 1


def off_between_filters(made: dict[str, Any]) -> None:
    item = made["sources"]["hc3"]["filters"][5]
    item["rows_in"] -= 1
    item["rows_kept"] -= 1


def other_reason(made: dict[str, Any]) -> None:
    rejected = made["sources"]["hc3"]["rejected"]
    rejected["a tie"] = rejected.pop("empty answer")


def below_zero(made: dict[str, Any]) -> None:
    made["sources"]["hc3"]["filters"][0] |= {"rows_kept": 85_450, "rejected": {"x": -1}}


def total_off(made: dict[str, Any]) -> None:
    made["rows_kept"] += 1


def tokens_off(made: dict[str, Any]) -> None:
    made["sources"]["hc3"]["tokens"] += 1


def length_lost(made: dict[str, Any]) -> None:
    made["sources"]["hc3"]["lengths"]["dialogues"][1] -= 1


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (off_in_filter, "hc3, filter language: 85134 rows in, but 83920 kept and 1215 rejected"),
        (off_between_filters, "hc3, filter decontaminate: 83919 rows came in, 83920 were left before it"),
        (other_reason, "hc3, all filters"),
        (below_zero, "hc3, filter read: a count below zero"),
        (total_off, "all sources, rows_kept"),
        (tokens_off, "all sources, tokens"),
        (length_lost, "hc3, dialogues"),
    ],
)
def test_what_does_not_balance_is_named(break_it: Callable[[dict[str, Any]], None], named: str) -> None:
    made = koala()
    check(made)
    break_it(made)
    with pytest.raises(ValueError, match=named):
        table(made)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_every_count_stands_in_the_table(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = at_width(monkeypatch, width, koala())
    assert max(map(len, lines)) <= width
    assert line_of(lines, "hc3") == ["hc3", "85,449", "83,918", "1,531", "87,000", "−1.8 %", "–", "–"]
    assert line_of(lines, "sharegpt")[1:] == ["59,873", "31,130", "28,743", "60,000", "−0.2 %", "30,000", "+3.8 %"]
    assert line_of(lines, "alpaca")[1:] == ["0", "0", "0", "52,000", "−100.0 %", "–", "–"]
    assert line_of(lines, "all")[1:] == ["145,322", "115,048", "30,274", "199,000", "−27.0 %", "–", "–"]
    text = "\n".join(lines)
    for expected in ("1,753 packed rows of 512", "99.5 % full", "2 epochs", "151 dialogues", "20,123 tokens"):
        assert expected in text.replace("\n", " ")
    assert line_of(lines, "koala") == ["koala", "180", "42", "23.3 %"]


def test_tokens_and_shares_by_source() -> None:
    made = koala()
    grid = tokens_grid(made)
    assert grid
    entry = made["sources"]["hc3"]
    assert grid.rows[1][:6] == ("hc3", "83,918", "40", "3", f"{entry['tokens']:,}", f"{entry['learnt_tokens']:,}")
    assert grid.rows[1][6] == f"{100 * entry['tokens'] / made['tokens']:.1f} %"
    assert grid.rows[1][7] == f"{100 * 83_918 / 115_048:.1f} %"
    assert grid.total[4:] == (f"{made['tokens']:,}", f"{made['learnt_tokens']:,}", "100.0 %", "100.0 %")


def test_reasons_are_in_the_filters_order_and_the_largest_first() -> None:
    assert reasons_grid(koala()).rows == (
        ("sharegpt", "duplicates", "59,873", "31,130", "28,743", "same question"),
        ("hc3", "layout", "85,449", "85,134", "315", "empty answer"),
        ("hc3", "language", "85,134", "83,920", "1,207", "not English: zh"),
        ("hc3", "language", "85,134", "83,920", "7", "not English: de"),
        ("hc3", "length", "83,920", "83,918", "2", "longer than the context"),
    )


def test_a_filter_is_named_once_and_its_counts_subtract(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = at_width(monkeypatch, 80, koala())
    assert line_of(lines, "language") == ["language", "85,134", "83,920", "1,207", "not English: zh"]
    assert line_of(lines, "7 ") == ["7", "not English: de"]


def test_repairs_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = at_width(monkeypatch, 80, koala())
    shown = [re.split(r"  +", line.strip()) for line in lines]
    place = shown.index(["hc3", "90", "HTML"])
    assert shown[place + 1] == ["12", "Copy code removed"]


def test_sources_stand_in_the_projects_order_whatever_the_ledgers() -> None:
    made = koala()
    made["sources"]["zz"] = made["sources"]["aa"] = source(0)
    assert [name for name, _ in sources_of(made)] == ["sharegpt", "hc3", "alpaca", "aa", "zz"]
    turned = {**made, "sources": dict(reversed(made["sources"].items()))}
    assert sources_of(turned) == sources_of(made)


def test_a_curate_steps_ledger_has_no_tokens_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = at_width(monkeypatch, 80, ledger({"hc3": source(10, {"layout": {"tie": 1}})}))
    assert line_of(lines, "hc3") == ["hc3", "10", "9", "1", "–", "–", "–", "–"]
    assert "token" not in "\n".join(lines)


def test_a_source_without_a_published_count_leaves_the_sum_open() -> None:
    made = ledger({"hc3": source(10, published_rows=20), "identity": source(5)})
    assert rows_grid(made).total == ("all", "15", "15", "0", "–", "–", "–", "–")


def test_huge_numbers_keep_all_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 123_456_789_012_345
    made = ledger({"hc3": source(rows, {"read": {"x": rows - 1}}, published_rows=rows)})
    lines = at_width(monkeypatch, 40, made)
    assert line_of(lines, "all") == ["all", f"{rows:,}", "1", f"{rows - 1:,}", f"{rows:,}", "0.0 %", "–", "–"]


def test_a_long_reason_is_wrapped_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "word " * 40 + "x" * 100
    lines = at_width(monkeypatch, 80, ledger({"hc3": source(3, {"read": {long: 1}})}))
    assert max(map(len, lines)) <= 80
    begin = next(number for number, line in enumerate(lines) if "word" in line)
    shown = "".join(line.split("  ")[-1].strip() for line in lines[begin:])
    assert long.replace(" ", "") in shown.replace(" ", "")


def test_hostile_texts_reach_the_terminal_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = at_width(monkeypatch, 200, ledger({EVIL: source(3, {"read": {"\x1b[31mred\ud800\n[bold]b[/bold]": 1}})}))
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "\\x1b[31mred\\ud800\\n[bold]b[/bold]" in text
    text.encode()


@settings(deadline=None, max_examples=25)
@given(ledgers())
def test_any_balanced_ledger_makes_a_table(made: dict[str, Any]) -> None:
    before = copy.deepcopy(made)
    text = table(made)
    assert text == table(made)
    assert made == before
    for entry in made["sources"].values():
        assert f"{entry['rows_in']:,}" in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_deviation() -> None:
    assert [deviation(found, 1000) for found in (1000, 1037, 0, 999_000)] == [
        "0.0 %",
        "+3.7 %",
        "−100.0 %",
        "+99,800.0 %",
    ]
    assert deviation(2, 186_000) == "< −99.9 %"
    assert deviation(5, None) == deviation(5, 0) == "–"
