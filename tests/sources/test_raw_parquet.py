"""Raw files of Parquet, whole and damaged: a row's line is its number."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import parquet
from raw_items import faults, opened, read, read_by, rows

from koala_ray.sources.raw import RawFault, read_rows


def test_parquet_rows_are_json_by_number(tmp_path: Path) -> None:
    values = [{"a": f"é{n}\n", "b": [{"c": None, "d": [n, n / 4]}], "e": n % 2 == 0} for n in range(600)]
    for rows_in_group in (100, 1000):
        items = read(tmp_path, parquet(values, row_group_size=rows_in_group), "x.parquet")
        assert rows(items) == list(enumerate(values, 1))
        assert faults(items) == []


def test_what_json_does_not_have_comes_as_text(tmp_path: Path) -> None:
    values = [{"a": b"caf\xc3\xa9", "b": datetime.date(2023, 4, 3), "c": Decimal("1.50"), "d": float("inf")}]
    assert rows(read(tmp_path, parquet(values), "x.parquet")) == [
        (1, {"a": "café", "b": "2023-04-03", "c": "1.50", "d": float("inf")})
    ]


def test_a_parquet_row_that_python_can_not_hold_costs_itself_only(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    days = pa.array([0, 0, 1 << 62], pa.int64()).view(pa.timestamp("us"))
    pq.write_table(pa.table({"a": texts, "b": days}), tmp_path / "x.parquet")
    good, not_unicode, no_date = (opened(item) for item in read_rows(str(tmp_path / "x.parquet")))
    assert good == (1, {"a": "a", "b": "1970-01-01 00:00:00"})
    assert isinstance(not_unicode, RawFault)
    assert (not_unicode.line, not_unicode.reason) == (2, "not valid UTF-8")
    assert isinstance(no_date, RawFault)
    assert (no_date.line, no_date.reason) == (3, "not valid JSON")


def test_damaged_parquet_keeps_the_row_groups_before(tmp_path: Path) -> None:
    values = [{"a": f"{n} " * 50} for n in range(40)]
    whole = bytearray(parquet(values, row_group_size=10, compression="none", use_dictionary=False))
    third = pq.ParquetFile(pa.BufferReader(bytes(whole))).metadata.row_group(2).column(0).data_page_offset
    whole[third : third + 20] = b"\xff" * 20
    for data, kept in ((bytes(whole), 20), (bytes(whole[:-9]), 0), (b"PAR1", 0), (b"", 0), (b'{"a": 1}\n', 0)):
        items = read(tmp_path, data, "x.parquet")
        assert rows(items) == list(enumerate(values[:kept], 1))
        assert faults(items) == [(kept + 1, "damaged Parquet")]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)), max_size=4), st.integers(0, 20))
def test_any_damage_to_parquet_is_read_without_raising(damage: list[tuple[int, bytes]], cut: int) -> None:
    values = [{"a": f"question {n}", "b": [f"answer {n}", "é"]} for n in range(9)]
    data = bytearray(parquet(values, row_group_size=3))
    for place, changed in damage:
        place %= len(data)
        data[place : place + len(changed)] = changed
    items = read_by(bytes(data[: len(data) - cut]), 1 << 16, "x.parquet")
    lines = [item.line if isinstance(item, RawFault) else item[0] for item in items]
    assert lines == list(range(1, len(items) + 1))
    assert len(items) >= 9 or faults(items)[-1][1] == "damaged Parquet"
    if not damage and not cut:
        assert rows(items) == list(enumerate(values, 1))
    for item in items:
        if isinstance(item, RawFault):
            item.excerpt.encode()
