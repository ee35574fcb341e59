"""Exports: read back by the programs that they are for, and as tables."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from koala_ray.errors import KoalaError
from koala_ray.generate.exports import FORMATS, export_answers
from koala_ray.records import Answer
from koala_ray.steps import run_step

ONE = {"n": 1}
ANSWERS = [
    Answer(
        "1", "Who?", "I.\u2028", [1], 3, 2, "stop", "a/m", prompt_set="s", model_hash="h", step=4, sampling={"n": 1}
    ),
    Answer("1", "And now?", "Me.", [2], 9, 2, "length", "a/m", turn=1, prompt_set="s", model_hash="h"),
    Answer("2", "Why?", "", [], 3, 0, "failed", "a/m", error="too long", prompt_set="s", model_hash="h"),
    Answer("x", "How?", "So.", [3], 3, 2, "stop", "a/m", prompt_set="s", model_hash="h"),
    Answer("x", "How?", "Or so.", [4], 3, 2, "stop", "a/m", index=1, prompt_set="s", model_hash="h"),
]


@pytest.fixture
def folder(tmp_path) -> str:
    def build(into: str) -> dict:
        Path(into, "answers.jsonl").write_bytes(FORMATS["jsonl"](ANSWERS, ""))
        return {}

    return run_step("generate", str(tmp_path), settings={}, inputs={}, build=build).folder


def exported(folder: str, kind: str, tmp_path: Path) -> Path:
    target = tmp_path / "made" / kind
    assert export_answers([folder], kind, str(target)) == len(ANSWERS)
    return target


def test_alpaca_eval_reads_its_model_outputs(folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from alpaca_eval.utils import load_or_convert_to_dataframe
    path = exported(folder, "alpaca-eval", tmp_path).rename(tmp_path / "model_outputs.json")
    table = load_or_convert_to_dataframe(path)
    assert table.to_dict("records") == [
        {"instruction": "Who?", "output": "I.\u2028", "generator": "m", "dataset": "s"},
        {"instruction": "How?", "output": "So.", "generator": "m", "dataset": "s"},
    ]


def test_fastchats_answer_file(folder, tmp_path):
    lines = [json.loads(line) for line in exported(folder, "fastchat", tmp_path).read_text().split("\n") if line]
    assert [(line["question_id"], line["model_id"]) for line in lines] == [(1, "m"), ("x", "m")]
    assert lines[0]["choices"] == [{"index": 0, "turns": ["I.\u2028", "Me."]}]
    assert lines[1]["choices"] == [{"index": 0, "turns": ["So."]}, {"index": 1, "turns": ["Or so."]}]


def test_parquet_holds_every_field(folder, tmp_path):
    table = pq.read_table(exported(folder, "parquet", tmp_path))
    assert table.num_rows == len(ANSWERS)
    first = table.to_pylist()[0]
    assert first["answer_ids"] == [1]
    assert first["step"] == 4
    assert json.loads(first["sampling"]) == {"n": 1}
    assert set(first) == set(Answer.__dataclass_fields__)


def test_a_folder_of_another_step_is_refused(tmp_path):
    other = run_step("curate", str(tmp_path), settings={}, inputs={}, build=lambda into: {}).folder
    with pytest.raises(KoalaError, match="a curate step's folder"):
        export_answers([other], "jsonl", str(tmp_path / "x"))
