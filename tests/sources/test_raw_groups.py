"""Neighbouring rows of one group, which come as one: a conversation that a raw file holds in parts."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import compress
from raw_items import VALUE

from koala_ray.sources import raw
from koala_ray.sources.raw import RawFault, parse_row, read_rows


def by_key(value: object) -> str | None:
    return value.get("key") if isinstance(value, dict) else None


def grouped(folder: Path, data: bytes, name: str = "x") -> list[tuple[int, int, int, Any]]:
    """Line, place, parts and values of each row; of a fault the reason."""
    (folder / name).write_bytes(data)
    found: list[tuple[int, int, int, Any]] = []
    for item in read_rows(str(folder / name), by_key):
        if isinstance(item, RawFault):
            found.append((item.line, 0, 0, item.reason))
            continue
        try:
            values = [value for value, _ in parse_row(item)]
        except ValueError:
            values = ["not valid JSON"]
        else:
            parts = json.loads(item.data) if item.parts > 1 else [json.loads(item.data)]
            assert values == parts
        found.append((item.line, item.place, item.parts, values))
    return found


def test_neighbours_of_a_group_are_put_together(tmp_path: Path) -> None:
    a, b, none = {"key": "a"}, {"key": "b"}, {"key": None}
    values = [a, a | {"n": 2}, b, none, none, a, b, b, b]
    expected = [(1, 2, [a, a | {"n": 2}]), (3, 1, [b]), (4, 1, [none]), (5, 1, [none]), (6, 1, [a]), (7, 3, [b, b, b])]
    lines = "\n".join(map(json.dumps, values)).encode()
    assert grouped(tmp_path, lines) == [(line, 1, parts, found) for line, parts, found in expected]
    assert grouped(tmp_path, b"[" + lines.replace(b"\n", b",\n") + b"]") == grouped(tmp_path, lines)
    one_line = grouped(tmp_path, json.dumps(values).encode())
    assert one_line == [(1, place, parts, found) for place, parts, found in expected]


def test_what_can_not_be_read_parts_a_group(tmp_path: Path) -> None:
    lines = b'{"key": "a"}\n{"key": "a"}\n{"key: "a"}\n{"key": "a"}\n\n{"key": "a"}\n'
    a = {"key": "a"}
    expected = [(1, 1, 2, [a, a]), (3, 1, 1, ["not valid JSON"]), (4, 1, 2, [a, a])]
    assert grouped(tmp_path, lines) == expected
    array = b'[{"key": "a"},\n{"key": "a"},\n{"key: "a"},\n{"key": "a"},\n\n{"key": "a"}]'
    assert grouped(tmp_path, array) == [(1, 1, 2, [a, a]), (3, 0, 0, "not valid JSON"), (4, 1, 2, [a, a])]
    packed = compress(lines, ".gz")
    assert grouped(tmp_path, packed[:-4], "x.gz") == [*expected, (7, 0, 0, "damaged compression")]


def test_a_group_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "GROUP", 40)
    found = grouped(tmp_path, b'{"key": "a"}\n' * 10)
    assert [(line, parts) for line, _, parts, _ in found] == [(1, 4), (5, 4), (9, 2)]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["a", "b"]).map(lambda key: {"key": key}) | VALUE.map(lambda v: {"v": v}), max_size=9))
def test_groups_hold_all_rows_in_order(values: list[Any]) -> None:
    for data in ("\n".join(map(json.dumps, values)), json.dumps(values, indent=1)):
        with tempfile.TemporaryDirectory() as folder:
            found = [row for row in grouped(Path(folder), data.encode()) if row[2]]
        assert [value for *_, parts in found for value in parts] == values
        assert sum(parts for _, _, parts, _ in found) == len(values)
        assert all(len({by_key(value) for value in parts}) == 1 for *_, parts in found)
