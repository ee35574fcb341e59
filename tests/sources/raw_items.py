"""What a raw file gives, item by item: each row's line and value, and the faults."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from koala_ray.sources import raw
from koala_ray.sources.raw import RawFault, RawRow, parse_row, read_rows

Items = list[tuple[int, Any] | RawFault]
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
"""JSON values that are read back as they were written."""


def read(folder: Path, data: bytes, name: str = "x.json") -> Items:
    """The items of a file of these bytes, which is put into a folder."""
    (folder / name).write_bytes(data)
    return [opened(item) for item in read_rows(str(folder / name))]


def opened(item: RawRow | RawFault) -> tuple[int, Any] | RawFault:
    """A row's line and value; a row of JSON lines that is no JSON as the fault that it turns out to be."""
    if isinstance(item, RawFault):
        return item
    assert item.parts == 1
    try:
        ((value, text),) = parse_row(item)
    except ValueError:
        return RawFault(item.line, "not valid JSON", item.data.decode("utf-8", "replace")[: raw.EXCERPT])
    assert text.encode("utf-8", "surrogateescape") == item.data
    return item.line, value


def read_by(data: bytes, block: int, name: str = "x.json") -> Items:
    """The items of a file that is read in blocks of so many bytes."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "BLOCK", block)
        return read(Path(folder), data, name)


def rows(items: Items) -> list[tuple[int, Any]]:
    """Line and value of what could be read."""
    return [item for item in items if not isinstance(item, RawFault)]


def faults(items: Items) -> list[tuple[int, str]]:
    """Line and reason of what could not."""
    return [(item.line, item.reason) for item in items if isinstance(item, RawFault)]
