"""Raw files of every kind, whole and damaged, by the line and text of each row."""

from __future__ import annotations

import datetime
import gzip
import json
import random
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koala_ray.sources import raw
from koala_ray.sources.raw import RawFault, RawRow, parse_row, read_rows

Items = list[tuple[int, Any] | RawFault]


def read(folder: Path, data: bytes, name: str = "x.json") -> Items:
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
    return [item for item in items if not isinstance(item, RawFault)]


def faults(items: Items) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, RawFault)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1}\n{"a": 2}\n', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'{"a": 1}\n{"a": 2}', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'\n\n{"a": 1}\n \t\n{"a": 2}\n\n', [(3, {"a": 1}), (5, {"a": 2})]),
        (b'{"a": 1}\r\n\r\n{"a": 2}\r\n', [(1, {"a": 1}), (3, {"a": 2})]),
        (b'\xef\xbb\xbf{"a": 1}\n{"a": 2}', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'  {"a": 1}  \n', [(1, {"a": 1})]),
        (b'"text"\n5\nnull\n', [(1, "text"), (2, 5), (3, None)]),
        (b'{"a": null, "b": [null, {"c": null}]}', [(1, {"a": None, "b": [None, {"c": None}]})]),
        (b"[]", []),
        (b" [ ] \n", []),
        (b"[1, 2]", [(1, 1), (1, 2)]),
        (b"[\n1,\n\n2\n]\n", [(2, 1), (4, 2)]),
        (b'\xef\xbb\xbf\n[{"a": 1}]', [(2, {"a": 1})]),
        (b'[\r\n  {"a": 1},\r\n  {"a": 2}\r\n]\r\n', [(2, {"a": 1}), (3, {"a": 2})]),
        (b"[[1], [[2]], {}]", [(1, [1]), (1, [[2]]), (1, {})]),
        (b"[null, true, -1.5e3]", [(1, None), (1, True), (1, -1500.0)]),
        ("[\"é\U0001f600\"]".encode(), [(1, "é\U0001f600")]),
    ],
)  # fmt: skip
def test_whole_files(data: bytes, expected: list[tuple[int, Any]]) -> None:
    for block in (1, 2, 3, 7, 1 << 20):
        items = read_by(data, block)
        assert rows(items) == expected
        assert faults(items) == []


@pytest.mark.parametrize("data", [b"", b"\n", b" \t\r\n\n  ", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
def test_a_file_without_anything(data: bytes) -> None:
    for block in (1, 1 << 20):
        items = read_by(data, block)
        assert rows(items) == []
        assert faults(items) == [(1, "empty file")]


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
def test_lines_cut_off_in_mid_string_keep_the_rows_before(block: int) -> None:
    items = read_by(b'{"a": "one"}\n{"a": "two"}\n{"a": "thr', block, "x.jsonl")
    assert rows(items) == [(1, {"a": "one"}), (2, {"a": "two"})]
    assert items[2] == RawFault(3, "not valid JSON", '{"a": "thr')


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b'[{"a": "one"}, {"a": "two"}, {"a": "thr', 1),
        (b'[\n {"a": "one"},\n {"a": "two"},\n {"a": "thr', 4),
        (b'[\n {\n  "a": "one"\n },\n {\n  "a": "two"\n },\n {\n  "a": [\n   {"b": "x"},\n   {"b": "y', 8),
    ],
)
def test_an_array_cut_off_in_mid_string_keeps_the_rows_before(block: int, data: bytes, line: int) -> None:
    items = read_by(data, block)
    assert [value for _, value in rows(items)] == [{"a": "one"}, {"a": "two"}]
    assert faults(items) == [(line, "cut-off JSON")]
    assert isinstance(items[2], RawFault)
    assert items[2].excerpt.startswith("{")


@pytest.mark.parametrize("data", [b'[{"a": 1}, {"a": 2}', b'[{"a": 1}, {"a": 2},', b'[{"a": 1}, {"a": 2}, \n\n'])
def test_an_array_that_is_not_closed(data: bytes) -> None:
    for block in (1, 1 << 20):
        items = read_by(data, block)
        assert len(rows(items)) == 2
        assert [reason for _, reason in faults(items)] == ["cut-off JSON"]


@pytest.mark.parametrize("block", [1, 9, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_damaged_element_costs_itself_only(block: int, indent: int | None) -> None:
    values = [{"id": n, "turns": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]} for n in range(5)]
    text = json.dumps(values, indent=indent)
    damaged = text.replace('"human"', '"hum"an"', 2).replace('"hum"an"', '"human"', 1)
    items = read_by(damaged.encode(), block)
    assert [value for _, value in rows(items)] == [values[0], *values[2:]]
    assert [reason for _, reason in faults(items)] == ["not valid JSON"]
    start = text[: text.index('"id": 1')].rindex("{")
    assert faults(items)[0][0] == text.count("\n", 0, start) + 1
    later = text[: text.index('"id": 4')].rindex("{")
    assert rows(items)[-1][0] == text.count("\n", 0, later) + 1


@pytest.mark.parametrize("block", [1, 9, 1 << 20])
@pytest.mark.parametrize("damaged", ['{"id: 2', '{id": 2', '{"ix": 2,,', "{2"])
def test_an_element_whose_first_key_is_damaged_costs_itself_only(block: int, damaged: str) -> None:
    values = [{"id": n, "turns": [{"value": "a"}, {"value": "b"}]} for n in range(5)]
    items = read_by(json.dumps(values).replace('{"id": 2', damaged).encode(), block)
    assert [value for _, value in rows(items)] == [*values[:2], *values[3:]]
    assert [reason for _, reason in faults(items)] == ["not valid JSON"]


@pytest.mark.parametrize("data", [b"[1, 2] 3", b"[1, 2]]", b"[1,\n2]\n[3]\n", b'[1, 2], {"a": 1}'])
def test_what_follows_the_array_is_not_lost_silently(data: bytes) -> None:
    for block in (1, 1 << 20):
        items = read_by(data, block)
        assert [value for _, value in rows(items)] == [1, 2]
        assert len(faults(items)) == 1


def test_a_byte_that_is_not_utf8_costs_its_row_only(tmp_path: Path) -> None:
    for data in (
        b'{"a": "x"}\n{"a": "\xff\xc3"}\n{"a": "\xc3\xa9"}\n',
        b'[{"a": "x"}, {"a": "\xff\xc3"}, {"a": "\xc3\xa9"}]',
    ):
        values = [value["a"] for _, value in rows(read(tmp_path, data))]
        assert (values[0], values[2]) == ("x", "é")
        with pytest.raises(UnicodeEncodeError):
            values[1].encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
@example("\U0001f600é漢", 1)
def test_characters_may_be_split_by_blocks(text: str, block: int) -> None:
    data = json.dumps([{"a": text}], ensure_ascii=False).encode()
    assert rows(read_by(data, block)) == [(1, {"a": text})]
    assert rows(read_by(data[1:-1], block)) == [(1, {"a": text})]


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


def compress(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data, mtime=0)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_only_claims_to_be_compressed(tmp_path: Path, suffix: str) -> None:
    items = read(tmp_path, b'{"a": 1}\n' * 10, f"x.jsonl{suffix}")
    assert faults(items) == [(1, "damaged compression")]
    assert rows(items) == []


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst"])
def test_a_file_that_is_not_there_is_no_damage(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_rows(str(tmp_path / name)))


@pytest.mark.parametrize("array", [False, True])
def test_a_huge_row_in_small_blocks(array: bool) -> None:
    values = [{"a": 1}, {"a": "é" * 1_000_000}, {"a": 3}]
    text = json.dumps(values, ensure_ascii=False) if array else "\n".join(json.dumps(v) for v in values)
    items = read_by(text.encode(), 16)
    assert [value for _, value in rows(items)] == values


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_too_deep_nesting_costs_its_row_only(array: bool, block: int) -> None:
    deep = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    parts = ['{"a": 1}', deep, '{"a": 3}']
    items = read_by((f"[{', '.join(parts)}]" if array else "\n".join(parts)).encode(), block)
    assert [value for _, value in rows(items)] == [{"a": 1}, {"a": 3}]
    assert [reason for _, reason in faults(items)] == ["not valid JSON"]


def test_a_number_too_long_for_python_costs_its_row_only(tmp_path: Path) -> None:
    for text in ('{"a": 1}\n{"a": %s}\n{"a": 3}', '[{"a": 1}, {"a": %s}, {"a": 3}]'):
        items = read(tmp_path, (text % ("9" * 5000)).encode())
        assert [value for _, value in rows(items)] == [{"a": 1}, {"a": 3}]
        assert [reason for _, reason in faults(items)] == ["not valid JSON"]


def test_excerpts_are_short_and_valid_text(tmp_path: Path) -> None:
    for data in (b'{"a": "\xff' + b"x" * 1000, b'[{"a": "\xff' + b"x" * 1000):
        (fault,) = read(tmp_path, data)
        assert isinstance(fault, RawFault)
        assert 100 < len(fault.excerpt) <= raw.EXCERPT
        fault.excerpt.encode()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_large_array_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool) -> None:
    values = [{"a": n} for n in range(20_000)]
    text = json.dumps(values, indent=1)
    (tmp_path / "x.json").write_text(text.replace('"a": 5\n', '"a" 5\n', 1) if damaged else text)
    pieces: list[bytes] = []
    original = raw._read_block

    def counted(*arguments: Any) -> bytes:
        pieces.append(original(*arguments))
        return pieces[-1]

    monkeypatch.setattr(raw, "_read_block", counted)
    items = []
    for item in read_rows(str(tmp_path / "x.json")):
        items.append(opened(item))
        if len(items) == 100:
            assert sum(map(len, pieces)) < len(text) / 3
    assert [value for _, value in rows(items)] == [value for value in values if not damaged or value != {"a": 5}]
    assert len(faults(items)) == damaged
    assert len(pieces) < 20


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), VALUE, max_size=3), max_size=6)


@settings(deadline=None, max_examples=100)
@given(OBJECTS, st.integers(1, 40), st.booleans(), st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(0, 2)))
def test_any_objects_as_lines(values: list[Any], block: int, ascii_only: bool, end: str, gaps: list[int]) -> None:
    lines, expected = [], []
    for place, value in enumerate(values):
        lines += [" "] * (gaps[place] if place < len(gaps) else 0)
        lines.append(json.dumps(value, ensure_ascii=ascii_only))
        expected.append((len(lines), value))
    items = read_by(end.join(lines).encode("utf-8", "replace"), block, "x.jsonl")
    assert rows(items) == expected
    assert faults(items) == ([] if values else [(1, "empty file")])


@settings(deadline=None, max_examples=100)
@given(OBJECTS, st.integers(1, 40), st.booleans(), st.none() | st.integers(0, 3))
def test_any_objects_as_an_array(values: list[Any], block: int, ascii_only: bool, indent: int | None) -> None:
    text, expected = "[", []
    for place, value in enumerate(values):
        text += ("," if place else "") + ("" if indent is None else "\n" + " " * indent)
        expected.append((text.count("\n") + 1, value))
        text += json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    text += ("" if indent is None else "\n") + "]\n"
    assert json.loads(text) == values
    items = read_by(text.encode(), block)
    assert rows(items) == expected
    assert faults(items) == []


@settings(deadline=None, max_examples=100)
@given(OBJECTS.filter(bool), st.integers(1, 40), st.none() | st.integers(0, 2), st.data())
def test_a_file_cut_anywhere_keeps_the_rows_before_the_cut(
    values: list[Any], block: int, indent: int | None, data: st.DataObject
) -> None:
    whole = json.dumps(values, indent=indent).encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    items = read_by(whole[:cut], block)
    kept = [value for _, value in rows(items)]
    assert kept == values[: len(kept)]
    assert [reason for _, reason in faults(items)] == ["cut-off JSON"]
    assert isinstance(items[-1], RawFault)
    # Whole elements before the cut are all there.
    assert len(json.dumps(values[: len(kept) + 1], indent=indent)) + 1 >= cut


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"a", b":", b"\n", b"\\", b"1", b" ", b"\xff"]),
        max_size=25,
    ).map(b"".join),
    st.integers(1, 20),
)
def test_any_bytes_are_read_without_raising(data: bytes, block: int) -> None:
    items = read_by(data, block)
    lines = [item.line if isinstance(item, RawFault) else item[0] for item in items]
    assert lines == sorted(lines)
    assert all(line >= 1 for line in lines)
    body = data.removeprefix(b"\xef\xbb\xbf")
    assert items == read_by(data, 1 << 20), "what is found depends on the block size"
    if not body.strip():
        assert faults(items) == [(1, "empty file")]
    elif not body.lstrip().startswith(b"["):
        assert len(items) == sum(bool(line.strip()) for line in body.split(b"\n"))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_any_bytes_by_the_name_of_a_compressed_file(data: bytes) -> None:
    for suffix in (".gz", ".zst"):
        read_by(data, 1 << 20, f"x{suffix}")
        read_by(compress(data, suffix)[:-3], 1 << 20, f"x{suffix}")


# The text of a row and its place


def test_a_row_is_the_text_that_stands_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b'\xef\xbb\xbf {"a":1,  "b" : 2}\t\r\n\r\n{"a": \xff\nnot JSON\n')
    assert list(read_rows(str(tmp_path / "lines"))) == [
        RawRow(1, 1, b'{"a":1,  "b" : 2}'),
        RawRow(3, 1, b'{"a": \xff'),
        RawRow(4, 1, b"not JSON"),
    ]
    (tmp_path / "array").write_bytes(b'[ {"a":1,\n "b" : "\xff"} , 2,3\n, 4 ]')
    assert list(read_rows(str(tmp_path / "array"))) == [
        RawRow(1, 1, b'{"a":1,\n "b" : "\xff"}'),
        RawRow(2, 1, b"2"),
        RawRow(2, 2, b"3"),
        RawRow(3, 1, b"4"),
    ]


def test_a_damaged_element_has_its_place_on_the_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'[{"a": 1}, {"a" 2}, {"a": 3},\n{"a": 4}]')
    places = [(item.line, getattr(item, "place", None)) for item in read_rows(str(tmp_path / "x"))]
    assert places == [(1, 1), (1, None), (1, 3), (2, 1)]


# An array on each line


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[1, 2]\n[{"a": 3}]\n', [(1, [1, 2]), (2, [{"a": 3}])]),
        (b"\n[1]\r\n \r\n[2]", [(2, [1]), (4, [2])]),
        (b"[1]\n[2", [(1, [1]), (2, "not valid JSON")]),
        (b"[1\n[2]\n[3]", [(1, "not valid JSON"), (2, [2]), (3, [3])]),
        (b"[1]\n[2]\n[3\n", [(1, [1]), (2, [2]), (3, "not valid JSON")]),
        (b"[1]\n", [(1, 1)]),
        (b"[[1]]", [(1, [1])]),
        (b"[\n[1]\n]", [(2, [1])]),
        (b"[[1],\n[2],\n[3]]", [(1, [1]), (2, [2]), (3, [3])]),
    ],
)
def test_an_array_on_each_line_is_a_row(data: bytes, expected: list[tuple[int, Any]], block: int) -> None:
    items = read_by(data, block)
    assert [(item.line, item.reason) if isinstance(item, RawFault) else item for item in items] == expected


# Parquet


def parquet(values: list[dict[str, Any]], **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(values), sink, **options)
    return sink.getvalue().to_pybytes()


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


# Groups


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
