"""The sources, their raw files, and what becomes of a raw row: examples or the reasons why not, with stable ids."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.recipe import SOURCE_NAMES, DataSettings
from koala_ray.records import Example, Rejected
from koala_ray.sources.base import SUFFIXES
from koala_ray.sources.raw import RawRow, read_rows
from koala_ray.sources.registry import SOURCES, check_layouts, examples, find_files


def read(source: str, path: Path | str, relative: str) -> list[Example | Rejected]:
    """All that a raw file gives."""
    found: list[Example | Rejected] = []
    for item in read_rows(str(path), SOURCES[source].group):
        assert isinstance(item, RawRow), item
        found += examples(source, relative, item, 0)
    return found


# The sources


def test_the_sources_are_those_of_the_recipe_in_its_order() -> None:
    assert tuple(SOURCES) == SOURCE_NAMES
    assert [source.name for source in SOURCES.values()] == list(SOURCE_NAMES)


@pytest.mark.parametrize("name", SOURCE_NAMES)
def test_a_source_says_what_it_is(name: str) -> None:
    source = SOURCES[name]
    assert all((source.title, source.licence, source.citation, source.published))
    if name == "identity":  # one's own rows: there is nothing to fetch
        assert not source.files
        return
    assert source.home.startswith("https://")
    assert source.published_rows
    assert source.files
    for file in source.files:
        assert file.url.startswith("https://")
        assert file.name.startswith(f"{name}/")


def test_published_counts() -> None:
    counts = {name: (source.published_rows, source.published_kept) for name, source in SOURCES.items()}
    assert counts["sharegpt"] == (60_000, 30_000)
    assert counts["hc3"] == (87_000, None)
    assert counts["alpaca"] == (52_000, None)


# Finding the files


def put(root: str, *names: str) -> None:
    for name in names:
        storage.write_atomic(storage.join(root, name), gzip.compress(b"{}") if name.endswith(".gz") else b"{}")


def found_files(**values: Any) -> dict[str, list[str]]:
    return {name: [file.relative for file in files] for name, files in find_files(DataSettings(**values)).items()}


def test_files_are_found_by_their_usual_names(root: str) -> None:
    put(root, "hc3.jsonl", "hc3_wiki.jsonl.gz", "sources/alpaca_cleaned.json", "sharegpt/v3/part.json", "sharegpt.txt")
    put(root, "deep/hc3.jsonl", "hc3.csv", "sources/hh/train.jsonl.zst", "oig/a.parquet")
    assert found_files(root=root) == {
        "sharegpt": ["sharegpt/v3/part.json"],
        "hc3": ["hc3.jsonl", "hc3_wiki.jsonl.gz"],
        "oig": ["oig/a.parquet"],
        "alpaca": ["sources/alpaca_cleaned.json"],
        "hh": ["sources/hh/train.jsonl.zst"],
    }


def test_no_file_is_found_for_two_sources(tmp_path: Path) -> None:
    places = (
        "{a}{b}{s}",
        "{a}_{b}{s}",
        "{a}/{b}{s}",
        "sources/{a}-{b}{s}",
        "sources/{a}/x/{b}{s}",
        "sources/{a}/sources/{b}{s}",
    )
    for place, a, b in product(places, SOURCE_NAMES, SOURCE_NAMES):
        path = tmp_path / place.format(a=a, b=b, s=SUFFIXES[(len(a) + len(b)) % len(SUFFIXES)])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_files(DataSettings(root=str(tmp_path)))
    claimed = Counter(file.relative for files in found.values() for file in files)
    assert set(claimed.values()) == {1}
    assert set(found) == set(SOURCE_NAMES) - {"identity"}, "one's own rows are read only where a recipe names them"
    assert len(claimed) == len(places) * (len(SOURCE_NAMES) - 1) * len(SOURCE_NAMES)
    for name, files in found.items():
        assert all(file.relative.removeprefix("sources/").startswith(name) for file in files)


def test_files_are_found_by_the_globs_of_a_recipe(root: str) -> None:
    put(root, "a/1.jsonl", "a/2.jsonl", "a/b/3.jsonl", "x.json", "hc3.jsonl")
    globs = {"alpaca": ["x.json"], "hc3": ["a/**.jsonl", "a/1*"]}
    assert found_files(root=root, sources=globs) == {
        "hc3": ["a/1.jsonl", "a/2.jsonl", "a/b/3.jsonl"],
        "alpaca": ["x.json"],
    }
    files = find_files(DataSettings(root=root, sources={"hc3": ["a/*.jsonl"]}))["hc3"]
    assert [storage.read_bytes(file.uri) for file in files] == [b"{}", b"{}"]


def test_finding_nothing_says_what_to_do(root: str) -> None:
    put(root, "readme.txt")
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"root": storage.join(root, "nowhere")}, "the data folder is not there", "--data"),
        ({"root": root}, "no raw file of any source", "data.sources.hc3"),
        ({"root": root, "sources": {"hc3": ["hc3/*.jsonl"]}}, "no file matches hc3/*.jsonl", "globs are relative"),
    ]
    for values, error, mend in cases:
        with pytest.raises(KoalaError) as caught:
            find_files(DataSettings(**values))
        assert error in caught.value.error
        assert mend in caught.value.mend
        assert caught.value.where


def test_the_sample_corpus_is_written_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path))
    found = find_files(DataSettings())
    assert list(found) == [name for name in SOURCE_NAMES if name != "identity"]
    check_layouts(found)
    for source, files in found.items():
        items = [item for file in files for item in read(source, file.uri, file.relative)]
        assert len(items) > 20
        assert {item.reason for item in items if isinstance(item, Rejected)} <= {"tie"}


RED_TEAM = {"transcript": "\n\nHuman: Hi\n\nAssistant: Hello", "rating": 4.0}
PAIR = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}


def test_another_data_set_is_refused_by_its_first_row(tmp_path: Path) -> None:
    (tmp_path / "hh").mkdir()
    (tmp_path / "hh" / "a.jsonl").write_text(json.dumps(PAIR))
    found = find_files(DataSettings(root=str(tmp_path)))
    check_layouts(found)
    (tmp_path / "hh" / "b.jsonl").write_text(f"{json.dumps(RED_TEAM)}\n{json.dumps(PAIR)}")
    found = find_files(DataSettings(root=str(tmp_path)))
    with pytest.raises(KoalaError) as caught:
        check_layouts(found)
    assert caught.value.error.startswith("hh: this file holds red-team transcripts")
    assert caught.value.where.endswith("hh/b.jsonl")
    assert "data.sources.hh" in caught.value.mend


@pytest.mark.parametrize("first", [b"", b"not JSON", b"[", b"\xff", b"[[[[", b"[" * 100_000, b"null", b"[]"])
def test_a_damaged_first_row_is_no_other_data_set(tmp_path: Path, first: bytes) -> None:
    (tmp_path / "hh.jsonl").write_bytes(first + b"\n" + json.dumps(PAIR).encode())
    check_layouts(find_files(DataSettings(root=str(tmp_path))))


def test_only_the_beginning_of_a_file_is_read_for_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hh.jsonl").write_text(f"{json.dumps(PAIR)}\n" * 10_000)
    read_bytes = 0
    opened = storage.open_read

    @contextmanager
    def counted(uri: str, compression: str | None = None) -> Iterator[Any]:
        nonlocal read_bytes
        with opened(uri, compression) as file:
            try:
                yield file
            finally:
                read_bytes = file.tell()

    monkeypatch.setattr(storage, "open_read", counted)
    files = find_files(DataSettings(root=str(tmp_path)))
    check_layouts(files)
    assert 0 < read_bytes < files["hh"][0].size / 4


def test_a_row_of_another_data_set_among_others_is_rejected() -> None:
    (item,) = examples("hh", "x.jsonl", raw(RED_TEAM), 0)
    assert isinstance(item, Rejected)
    assert item.filter == "layout"
    assert item.reason.startswith("another data set: red-team transcripts")


# A row's examples


def raw(value: object, line: int = 1, place: int = 1) -> RawRow:
    return RawRow(line, place, json.dumps(value).encode())


def test_ids_name_source_file_line_and_side() -> None:
    row = {"question": "q", "human_answers": ["a", "", "b"], "chatgpt_answers": ["c"]}
    found = examples("hc3", "some/folder/x.jsonl", raw(row, 7), 0)
    assert [item.id if isinstance(item, Example) else item.reason for item in found] == [
        "hc3/some/folder/x.jsonl#7/human0",
        "empty answer",
        "hc3/some/folder/x.jsonl#7/human2",
        "hc3/some/folder/x.jsonl#7/chatgpt0",
    ]
    assert {item.pair for item in found if isinstance(item, Example)} == {"hc3/some/folder/x.jsonl#7"}
    assert {(item.source, item.file, item.line) for item in found} == {("hc3", "some/folder/x.jsonl", 7)}
    assert found == examples("hc3", "some/folder/x.jsonl", raw(row, 7), 0)


def test_rows_of_an_array_on_one_line_have_ids_and_pairs_of_their_own(tmp_path: Path) -> None:
    values = [{"instruction": f"i{place}", "output": "o"} for place in range(3)]
    (tmp_path / "x.json").write_text(json.dumps(values))
    on_one_line = [item for item in read("alpaca", tmp_path / "x.json", "x.json") if isinstance(item, Example)]
    assert [item.id for item in on_one_line] == ["alpaca/x.json#1", "alpaca/x.json#1.2", "alpaca/x.json#1.3"]
    assert [item.pair for item in on_one_line] == [item.id for item in on_one_line]
    (tmp_path / "x.json").write_text(json.dumps(values, indent=1))
    indented = [item for item in read("alpaca", tmp_path / "x.json", "x.json") if isinstance(item, Example)]
    assert [item.id for item in indented] == ["alpaca/x.json#2", "alpaca/x.json#6", "alpaca/x.json#10"]


def test_text_that_is_not_unicode_costs_its_side_only() -> None:
    for bad in (b"\xff", b"\\ud800", b"\xed\xa0\x80"):
        data = b'{"question": "q", "human_answers": ["a", "%s", "c"], "chatgpt_answers": ["d"]}' % bad
        found = examples("hc3", "x", RawRow(1, 1, data), 0)
        assert [item.id if isinstance(item, Example) else (item.filter, item.reason) for item in found] == [
            "hc3/x#1/human0",
            ("read", "not valid UTF-8"),
            "hc3/x#1/human2",
            "hc3/x#1/chatgpt0",
        ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"instruction": "a"} {}',
        b'{"instruction": "a\x00"}',
        b'\xef\xbb\xbf{"instruction": "a"}',
        b'{"instruction": ' + b"9" * 5000 + b"}",
        b'{"instruction": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff\xfe",
    ],
)
def test_what_is_not_json_is_rejected_as_read(data: bytes) -> None:
    beginning = data[:200].decode("utf-8", "replace")
    assert examples("alpaca", "x", RawRow(3, 1, data), 0) == [
        Rejected("alpaca", "x", 3, "read", "not valid JSON", beginning)
    ]


def test_each_part_of_a_group_that_is_not_json_is_rejected() -> None:
    data = b"[{}," + b"[" * 100_000 + b"]" * 100_000 + b"]"
    found = examples("sharegpt", "x", RawRow(3, 1, data, parts=2), 0)
    assert [(item.line, isinstance(item, Rejected) and item.reason) for item in found] == [(3, "not valid JSON")] * 2


def test_a_deeply_nested_row_is_rejected_like_any_other() -> None:
    for depth in (100, 400, *range(800, 1000, 7), 5000):
        row = RawRow(1, 1, b'{"a": ' + b"[" * depth + b"]" * depth + b"}")
        (item,) = examples("alpaca", "x.jsonl", row, 0)
        assert isinstance(item, Rejected)
        assert item.reason in ("missing field: instruction", "not valid JSON")


def test_numbers_that_are_none_are_no_texts() -> None:
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        row = RawRow(1, 1, b'{"instruction": %s, "output": "b"}' % number)
        (item,) = examples("alpaca", "x.jsonl", row, 0)
        assert (isinstance(item, Rejected) and item.reason) == "not a text: instruction"


def test_excerpts_and_reasons_are_short_and_can_be_stored() -> None:
    role = b'{"from": "\xff' + b"x" * 1000 + b'", "value": "a"}'
    (item,) = examples("sharegpt", "x", RawRow(1, 1, b'{"conversations": [%s]}' % role), 0)
    assert isinstance(item, Rejected)
    assert item.reason == f"unknown role: ?{'x' * 39}"
    assert item.excerpt == '{"conversations": [{"from": "?' + "x" * 170
    assert len(item.excerpt) == 200
    (item,) = examples("alpaca", "x", raw({"a": "\U0001f600" * 300}), 0)
    assert isinstance(item, Rejected)
    item.excerpt.encode()


# Real rows


@pytest.mark.parametrize(
    ("source", "name", "kept", "rejected"),
    [
        ("sharegpt", "sharegpt_layout_oasst.json", 100, {}),
        ("hc3", "hc3_open_qa.jsonl", 4726, {"an error message of the chat page": 7, "empty answer": 15}),
        ("oig", "oig_grade_school_math.jsonl", 800, {}),
        ("oig", "oig_unified_basic.jsonl", 4, {}),
        ("alpaca", "alpaca_cleaned_1000.json", 1000, {}),
        ("hh", "hh_harmless.jsonl.gz", 2996, {"empty answer": 4}),
        ("summarize", "summarize_comparisons.jsonl", 2, {}),
    ],
)
def test_real_rows(real_data: Path, source: str, name: str, kept: int, rejected: dict[str, int]) -> None:
    items = read(source, real_data / "sources" / name, f"sources/{name}")
    reasons = Counter(item.reason for item in items if isinstance(item, Rejected))
    ids = [item.id for item in items if isinstance(item, Example)]
    assert (len(ids), dict(reasons)) == (kept, rejected)
    assert len(set(ids)) == kept
