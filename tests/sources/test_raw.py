"""Raw files of JSON lines and of one array, whole and damaged, by the line and text of each row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from raw_items import VALUE, faults, opened, read, read_by, rows

from koala_ray.sources import raw
from koala_ray.sources.raw import RawFault, RawRow, read_rows


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
