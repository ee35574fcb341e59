"""Files of every source cut off or damaged: the account is exact, and the rows that the damage spares stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_rows import (
    LAYOUTS,
    alone,
    as_file,
    as_json,
    check_items,
    every_source,
    lines_and_array,
    outcome,
    read_data,
    sample_rows,
)
from packed import compress, parquet

from koala_ray.records import Rejected
from koala_ray.sources.registry import SOURCES

# Cut off


@every_source
@lines_and_array
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_file_cut_anywhere_keeps_the_rows_before_the_cut(source: str, array: bool, data: st.DataObject) -> None:
    rows = [as_json(row) for row in sample_rows(LAYOUTS[source].sample)[:3]]
    whole = as_file(rows, array)
    cut = data.draw(st.integers(1, len(whole) - 1))
    found = read_data(whole[:cut], source)
    ends = [whole.index(row) + len(row) for row in rows]
    kept = sum(end <= cut for end in ends)
    expected = [item for place, row in enumerate(rows[:kept], 1) for item in alone(source, row, place + array)]
    assert found[: len(expected)] == expected
    lost = found[len(expected) :]
    if array:
        closed = cut >= len(whole) - 1
        assert [outcome(item) for item in lost] == [] if closed else [("read", "cut-off JSON")]
    else:
        begun = whole[:cut].rpartition(b"\n")[2] not in (b"", *rows)
        assert [outcome(item) for item in lost] == [("read", "not valid JSON")] * begun


@every_source
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_a_packed_file_cut_anywhere_says_so(source: str, suffix: str, data: st.DataObject) -> None:
    rows = [as_json(row) for row in sample_rows(LAYOUTS[source].sample)[:6]]
    packed = compress(as_file(rows, False), suffix)
    cut = data.draw(st.integers(1, len(packed) - 1))
    *kept, last = read_data(packed[:cut], source, f"x{suffix}")
    assert outcome(last) == ("read", "damaged compression")
    whole = [item for place, row in enumerate(rows, 1) for item in alone(source, row, place)]
    assert kept == whole[: len(kept)]


# Any damage


DAMAGE = st.lists(
    st.tuples(st.integers(0), st.integers(0, 30), st.binary(max_size=6) | st.sampled_from([b'"', b"\n", b"}", b"\\"])),
    min_size=1,
    max_size=4,
)
"""Where, how many bytes are taken away, and what is put there."""


@every_source
@settings(deadline=None, max_examples=40)
@given(damage=DAMAGE)
def test_any_damage_to_lines_costs_the_damaged_lines(source: str, damage: list[tuple[int, int, bytes]]) -> None:
    whole = bytearray(as_file([as_json(row) for row in sample_rows(LAYOUTS[source].sample)[:5]], False))
    for place, size, put in damage:
        place %= len(whole) or 1
        whole[place : place + size] = put
    found = read_data(bytes(whole), source)
    check_items(found)
    body = whole.removeprefix(b"\xef\xbb\xbf")
    if body.strip() and not body.lstrip().startswith(b"["):
        lines = [(line, row.strip()) for line, row in enumerate(bytes(body).split(b"\n"), 1) if row.strip()]
        expected = [item for line, row in lines for item in alone(source, row, line)]
        assert [item.line for item in found] == [item.line for item in expected]
        if SOURCES[source].group is None:
            assert found == expected


@every_source
@settings(deadline=None, max_examples=40)
@given(damage=DAMAGE)
def test_any_damage_to_an_array_spares_the_rows_before_it(source: str, damage: list[tuple[int, int, bytes]]) -> None:
    rows = [as_json(row) for row in sample_rows(LAYOUTS[source].sample)[:5]]
    whole = bytearray(as_file(rows, True))
    ends = [whole.index(row) + len(row) for row in rows]
    earliest = len(whole)
    for place, size, put in damage:
        place %= len(whole) or 1
        earliest = min(earliest, place)
        whole[place : place + size] = put
    found = read_data(bytes(whole), source)
    check_items(found)
    spared = rows[: sum(end < earliest for end in ends)]
    expected = [item for place, row in enumerate(spared, 1) for item in alone(source, row, place + 1)]
    assert found[: len(expected)] == expected


@every_source
@pytest.mark.parametrize("name", ["x.gz", "x.zst", "x.parquet"])
@settings(deadline=None, max_examples=20)
@given(damage=DAMAGE)
def test_any_damage_to_a_packed_file_is_told(source: str, name: str, damage: list[tuple[int, int, bytes]]) -> None:
    rows = sample_rows(LAYOUTS[source].sample)[:5]
    lines = as_file([as_json(row) for row in rows], False)
    whole = parquet(rows) if name == "x.parquet" else compress(lines, Path(name).suffix)
    damaged = bytearray(whole)
    for place, size, put in damage:
        place %= len(damaged) or 1
        damaged[place : place + size] = put
    found = read_data(bytes(damaged), source, name)
    check_items(found)
    good = read_data(whole, source, name)
    assert len(found) >= len(good) or any(isinstance(item, Rejected) and item.filter == "read" for item in found)
