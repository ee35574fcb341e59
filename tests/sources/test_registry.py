"""Which raw files are found for a recipe, what a source says of itself, and the counts of the real files."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.recipe import DataSettings
from koala_ray.records import Example, Rejected
from koala_ray.sources import alpaca, hc3, sharegpt
from koala_ray.sources.registry import SOURCES, find_files, read_examples

# Finding the files


def put(root: str, *names: str) -> None:
    for name in names:
        storage.write_atomic(storage.join(root, name), gzip.compress(b"{}") if name.endswith(".gz") else b"{}")


def found_files(**values: Any) -> dict[str, list[str]]:
    return {name: [file.relative for file in files] for name, files in find_files(DataSettings(**values)).items()}


def test_files_are_found_by_their_usual_names(root: str) -> None:
    put(root, "hc3.jsonl", "hc3_wiki.jsonl.gz", "sources/alpaca_cleaned.json", "sharegpt/v3/part.json", "sharegpt.txt")
    put(root, "deep/hc3.jsonl", "hc3.json", "hh.jsonl")
    assert found_files(root=root) == {
        "sharegpt": ["sharegpt/v3/part.json"],
        "hc3": ["hc3.jsonl", "hc3_wiki.jsonl.gz"],
        "alpaca": ["sources/alpaca_cleaned.json"],
    }


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
        ({"root": root, "sources": {"hh": ["*"]}}, "no reader yet for hh", "sharegpt, hc3, alpaca"),
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
    assert list(found) == ["sharegpt", "hc3", "alpaca"]
    for source, files in found.items():
        items = [item for file in files for item in read_examples(source, file.uri, file.relative)]
        assert len(items) > 20
        assert not [item for item in items if isinstance(item, Rejected)]


@pytest.mark.parametrize("source", [sharegpt.SOURCE, hc3.SOURCE, alpaca.SOURCE], ids=lambda source: source.name)
def test_a_source_says_what_it_is(source: Any) -> None:
    assert SOURCES[source.name] is source
    assert source.title
    assert source.licence
    assert source.published
    assert source.citation


# Real rows


@pytest.mark.parametrize(
    ("source", "name", "kept", "rejected"),
    [
        ("hc3", "hc3_open_qa.jsonl", 4733, {"empty answer": 15}),
        ("alpaca", "alpaca_cleaned_1000.json", 1000, {}),
        ("sharegpt", "sharegpt_layout_oasst.json", 100, {}),
    ],
)
def test_real_rows(real_data: Path, source: str, name: str, kept: int, rejected: dict[str, int]) -> None:
    items = list(read_examples(source, str(real_data / "sources" / name), f"sources/{name}"))
    reasons = Counter(item.reason for item in items if isinstance(item, Rejected))
    ids = [item.id for item in items if isinstance(item, Example)]
    assert (len(ids), dict(reasons)) == (kept, rejected)
    assert len(set(ids)) == kept
