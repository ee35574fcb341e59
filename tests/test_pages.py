"""What all pages share: the frame, tables, and how numbers and texts are written."""

from __future__ import annotations

import re

import pytest
from html_reader import Reader
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.pages import (
    COLOURS,
    STYLE,
    Grid,
    beside_each_other,
    compact,
    document,
    escaped,
    figure,
    headline,
    number,
    percent,
    plural,
    printable,
    table,
)

EVIL = "<script>alert('x')</script> & \"quoted\""


def test_the_frame_is_a_whole_page_that_needs_nothing() -> None:
    page = document(EVIL, "<p>body</p>", style="p{color:var(--kept)}")
    read = Reader(page)
    assert page.startswith("<!doctype html>")
    assert (read.of("title"), read.of("p")) == ([EVIL], ["body"])
    assert not [attributes for _, attributes in read.tags if {"src", "href"} & set(attributes)]


def test_every_colour_has_a_value_in_the_light_and_in_the_dark() -> None:
    page = document("", "", colours={"own": ("#111111", "#eeeeee")})
    light, dark = page.split("@media(prefers-color-scheme:dark)", 1)
    assert "--own:#111111;" in light
    assert "--own:#eeeeee;" in dark
    assert "--page:#ffffff;" in light
    used = set(re.findall(r"var\(--([a-z-]+)\)", STYLE))
    assert used <= {*COLOURS, "page"}


GRID = Grid("Rows", ("source", "rows", "reason"), (("hc3", "1", EVIL), ("hc3", "2", "b"), ("hh", "3", "c")), groups=1)


def test_a_table_shows_every_cell_and_a_group_once() -> None:
    read = Reader(table(GRID, {"source", "reason"}))
    assert read.of("caption") == ["Rows"]
    assert read.of("th") == ["source", "rows", "reason", "hc3", "hh"]
    assert read.of("td") == ["1", EVIL, "2", "b", "3", "c"]
    (grouped,) = [attributes for _, attributes in read.tags if "rowspan" in attributes]
    assert (grouped["rowspan"], grouped["scope"], grouped["class"]) == ("2", "rowgroup", "words")
    assert sum(attributes.get("class") == "words" for _, attributes in read.tags) == 2 + 2 + 3


def test_a_total_is_the_tables_foot() -> None:
    read = Reader(table(Grid("", ("a", "b"), (), total=("all", "7")), set()))
    assert (read.of("th")[-1], read.of("td")) == ("all", ["7"])
    assert "tfoot" in [tag for tag, _ in read.tags]


def test_a_table_of_nothing_is_left_out() -> None:
    assert table(Grid("Rows", ("a",), ()), set()) == ""


def test_figures_and_headlines_escape_their_texts() -> None:
    svg = "<svg></svg>"
    read = Reader(headline([(EVIL, EVIL, EVIL)]) + beside_each_other(figure(EVIL, svg), "<p></p>"))
    assert read.texts == [EVIL] * 4
    assert "script" not in [tag for tag, _ in read.tags]


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, "–"),
        (0, 5, "0.0 %"),
        (5, 5, "100.0 %"),
        (1, 10**6, "< 0.1 %"),
        (10**6 - 1, 10**6, "> 99.9 %"),
        (123, 1000, "12.3 %"),
    ],
)
def test_percent(part: int, whole: int, expected: str) -> None:
    assert percent(part, whole) == expected


def test_counts() -> None:
    assert [number(count) for count in (None, 0, 1234567)] == ["–", "0", "1,234,567"]
    assert [plural(count, "row") for count in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]


def test_compact() -> None:
    assert [compact(count) for count in (0, 87_000, 12_345_678, 1_250_000_000)] == ["0", "87,000", "12.3 M", "1.2 B"]


@given(st.text())
def test_printable_leaves_nothing_that_is_not(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()


@given(st.text())
def test_escaped_texts_come_back_from_a_page(text: str) -> None:
    shown = "".join(Reader(f"<p>{escaped(text)}</p>").texts)
    assert shown == printable(text)
