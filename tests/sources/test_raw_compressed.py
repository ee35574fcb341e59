"""Compressed raw files, whole and damaged."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import compress
from raw_items import faults, read, read_by, rows


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("array", [False, True])
def test_compressed_files(tmp_path: Path, suffix: str, array: bool) -> None:
    values = [{"a": n} for n in range(100)]
    data = (json.dumps(values, indent=1) if array else "\n".join(map(json.dumps, values))).encode()
    items = read(tmp_path, compress(data, suffix), f"x.json{suffix}")
    assert [value for _, value in rows(items)] == values
    assert faults(items) == []


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("array", [False, True])
def test_damaged_compression_keeps_the_rows_before(tmp_path: Path, suffix: str, array: bool) -> None:
    noise = random.Random(0)
    values = [{"a": noise.randbytes(200).hex()} for _ in range(4000)]
    lines = ",\n".join(map(json.dumps, values)) if array else "\n".join(map(json.dumps, values))
    packed = compress((f"[\n{lines}\n]" if array else lines).encode(), suffix)
    middle = len(packed) // 2
    for damaged in (packed[:middle], packed[:middle] + bytes(2000) + packed[middle + 2000 :]):
        items = read(tmp_path, damaged, f"x.json{suffix}")
        kept = [value for _, value in rows(items)]
        assert kept[:1500] == values[:1500]  # gzip notices a changed byte only some rows later
        if damaged == packed[:middle]:
            assert kept == values[: len(kept)]
            assert len(faults(items)) == 1
        line, reason = faults(items)[-1]
        assert reason == "damaged compression"
        assert line > rows(items)[-1][0]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_only_claims_to_be_compressed(tmp_path: Path, suffix: str) -> None:
    items = read(tmp_path, b'{"a": 1}\n' * 10, f"x.jsonl{suffix}")
    assert faults(items) == [(1, "damaged compression")]
    assert rows(items) == []


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_any_bytes_by_the_name_of_a_compressed_file(data: bytes) -> None:
    for suffix in (".gz", ".zst"):
        read_by(data, 1 << 20, f"x{suffix}")
        read_by(compress(data, suffix)[:-3], 1 << 20, f"x{suffix}")
