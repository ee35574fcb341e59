"""The benchmarks' corpus at a thousandth of its size, made from the sample corpus."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from koala_ray.records import Example
from koala_ray.samples import write_samples
from koala_ray.sources.raw import RawRow, read_rows
from koala_ray.sources.registry import SOURCES, examples
from koala_ray.storage import list_files

SCRIPT = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "corpus.py"
FOREIGN = [{"id": number, "query": f"Wie kann ich meinen {number}. Tag besser planen?"} for number in range(20)]
ITEMS = {"sharegpt": 60, "hc3": 24, "oig": 30, "alpaca": 52, "hh": 160, "webgpt": 20, "summarize": 93}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Path:
    """Rows to make it from: the samples, and a second language."""
    folder = tmp_path_factory.mktemp("seeds")
    write_samples(folder)
    (folder / "languages").mkdir()
    (folder / "languages" / "de20.jsonl").write_text("".join(json.dumps(row) + "\n" for row in FOREIGN))
    return folder


@pytest.fixture(scope="module")
def corpus(seeds, tmp_path_factory) -> Path:
    return make(seeds, tmp_path_factory.mktemp("made") / "corpus")


def make(seeds: Path, folder: Path, *arguments: str) -> Path:
    command = [sys.executable, SCRIPT, "--to", folder, "--data", seeds, "--part", "1/1000", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder


def raw_rows(folder: Path, source: str) -> list[RawRow]:
    found = list_files(str(folder), SOURCES[source].usual_names)
    rows = [row for file in found for row in read_rows(file.uri, SOURCES[source].group)]
    assert rows
    assert all(isinstance(row, RawRow) for row in rows)
    return rows


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_has_the_published_counts(corpus):
    assert {source: len(raw_rows(corpus, source)) for source in ITEMS} == ITEMS


def test_says_how_many_raw_rows_there_are(corpus):
    stated = json.loads((corpus / "made.json").read_text())["sources"]
    assert {source: counts["rows"] for source, counts in stated.items()} == {
        source: sum(row.parts for row in raw_rows(corpus, source)) for source in ITEMS
    }


@pytest.mark.parametrize("source", ITEMS)
def test_rows_give_dialogues(corpus, source):
    items = [item for row in raw_rows(corpus, source) for item in examples(source, "file", row, seed=0)]
    reasons = Counter(item.reason for item in items if not isinstance(item, Example))
    assert set(reasons) <= {"tie", "no exchange of a user and an assistant"}
    assert reasons.total() < len(items) / 2


@pytest.mark.parametrize("source", ["sharegpt", "hc3", "alpaca", "oig"])
def test_no_question_is_asked_twice(corpus, source):
    asked = Counter()
    for row in raw_rows(corpus, source):
        items = [item for item in examples(source, "file", row, seed=0) if isinstance(item, Example)]
        asked.update({tuple(turn.text for turn in item.turns if turn.role == "user") for item in items})
    assert max(asked.values()) == 1


def test_some_rows_are_for_the_filters(corpus):
    texts = [row.data.decode() for row in raw_rows(corpus, "sharegpt")]
    assert sum("Wie kann ich" in text for text in texts) > 0
    assert sum("OpenAI" in text or "ChatGPT" in text or "GPT-3" in text for text in texts) > 0


def test_is_the_same_each_time(corpus, seeds, tmp_path):
    assert files(make(seeds, tmp_path / "again")) == files(corpus)


def test_another_seed_gives_other_rows(corpus, seeds, tmp_path):
    other = files(make(seeds, tmp_path / "other", "--seed", "1"))
    mine = files(corpus)
    assert other.keys() == mine.keys()
    assert all(other[name] != mine[name] for name in mine if not name.startswith("prompts/"))


def test_what_is_there_already_stays(corpus, seeds):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    make(seeds, corpus)
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_a_folder_without_rows_is_refused(tmp_path):
    command = [sys.executable, SCRIPT, "--to", tmp_path / "corpus", "--data", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "sources/sharegpt*.json" in done.stderr
