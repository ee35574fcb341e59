"""What the commands say of wrong input and of failures: what, where and how to mend it, and nothing half done."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from command_line import run, stand_alone


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_alone(tmp_path, monkeypatch)


WRONG = {
    "unknown recipe": ("train koala-smoll", "no recipe of this name", "koala-smoll", "koala-smol?"),
    "recipe file that is not there": ("prepare my.yaml", "no such recipe file", "my.yaml", "YAML"),
    "typo in a key": ("train tiny --set train.lrr=1", "no setting 'train.lrr'", "train.lrr=1", "train.lr?"),
    "override without a value": ("recipe show tiny --set train.lr", "key and a value", "train.lr", "--set"),
    "bad value": ("prepare tiny --set train.lr=x", "valid number", "train.lr", "'x'"),
    "batch that does not divide": ("run tiny --set train.batch_rows=3", "divide", "train", "batch_rows=4"),
    "unknown source": ("prepare tiny --set data.sources.hc4=[a]", "no setting", "hc4", "data.sources.hc3"),
    "source outside the mixture": (
        "prepare tiny --set data.mixture=koala-distill --set data.sources.hh=['*'] --set model.base=model",
        "has no hh",
        "data.sources",
        "data.mixture",
    ),
    "mixture that is not all there": (
        "prepare tiny --set data.mixture=koala-all --data raw --set model.base=model",
        "no file of sharegpt",
        "raw",
        "koala-ray fetch sharegpt",
    ),
    "another data set": (
        "prepare tiny --data raw --set data.sources.hh=['red-team.jsonl'] --set model.base=model",
        "red-team transcripts",
        "red-team.jsonl",
        "data.sources.hh",
    ),
    "prompt set that is not there": (
        "prepare tiny --data raw --set curate.against=[nonesuch.jsonl] --set model.base=model",
        "prompt set is not there",
        "nonesuch.jsonl",
        "JSON-lines",
    ),
    "unknown source to fetch": ("fetch hc4 --to o", "no source hc4", "fetch", "koala-ray sources"),
    "curves of no run": ("curves empty --out o", "no figures of a run", "empty", "train-"),
    "figures that can't be read": (
        "curves spoilt --out o",
        "can't be read",
        "spoilt/metrics.jsonl",
        "leave this run out",
    ),
    "curves below a file": ("curves train-0 --out regular-file/x", "can't write", "regular-file", "--out"),
    "machines that the plan does not know": ("plan --on 8xA100-80G --tokens 1000", "A100-80G", "--on", "A100-80GB?"),
    "plan for nothing": ("plan", "how much there is to train on", "koala-smol", "--packs"),
    "plan for another folder": ("plan --on 1xA100-80GB --packs empty", "not a finished step", "empty", "run the step"),
    "ledger of no step": ("ledger raw", "not a finished step", "raw", "run the step"),
    "missing data folder": ("prepare tiny --data /nonexistent --out o", "data folder", "/nonexistent", "--data"),
    "data folder without data": ("prepare tiny --data empty --out o", "no raw file", "empty", "hc3"),
    "data of an unknown kind": ("prepare tiny --data nonesuch://b --out o", "nonesuch", "nonesuch://b", "s3://"),
    "glob without files": (
        "prepare tiny --set data.sources.hc3=[x*] --out o",
        "no file matches",
        "data.sources.hc3",
        "glob",
    ),
    "missing base model": (
        "prepare tiny --set model.base=./nowhere --out o",
        "base model",
        "./nowhere",
        "smollm2-135m",
    ),
    "missing base model to train": ("train tiny --set model.base=./nowhere --out o", "base model", "./nowhere", "tiny"),
    "folder that is no model": ("train tiny --set model.base=empty --out o", "no model", "empty", "folder"),
    "missing model to generate with": ("generate --model ./nowhere --out o", "base model", "./nowhere", "tiny"),
    "out below a file": (
        "prepare tiny --out regular-file/o --data raw --set model.base=model",
        "can't write",
        "regular-file",
        "--out",
    ),
    "out that is a file": (
        "prepare tiny --out regular-file --data raw --set model.base=model",
        "can't write",
        "regular-file",
        "--out",
    ),
    "missing prompts": ("generate --model tiny --prompts no.jsonl --out o", "prompt set", "no.jsonl", "JSON-lines"),
    "missing prompts for the loop": ("run tiny --prompts no.jsonl --out o", "prompt set", "no.jsonl", "sample"),
    "prompts that do not travel": (
        "generate --model tiny --prompts koala",
        "does not travel",
        "--prompts koala",
        "KOALA_DATA",
    ),
    "folder as prompts": ("generate --model tiny --prompts empty", "prompt set", "empty", "JSON-lines"),
    "preview of nothing": ("preview nowhere", "not a finished step", "nowhere", "run the step"),
    "preview of another folder": ("preview empty", "not a finished step", "empty", "run the step"),
    "samples below a file": ("sample-data --to regular-file/x", "can't write", "regular-file", "folder"),
    "samples nowhere": ("sample-data --to /proc/koala", "can't write", "/proc/koala", "folder"),
}


def set_up(folder: Path) -> None:
    (folder / "regular-file").write_text("x")
    (folder / "empty").mkdir()
    (folder / "raw").mkdir()
    (folder / "raw" / "alpaca.json").write_text('[{"instruction": "a", "output": "b"}]')
    (folder / "raw" / "red-team.jsonl").write_text('{"transcript": "x", "rating": 1}')
    for name, text in (("train-0", ""), ("spoilt", '{"kind": "step", "step": 1}')):
        (folder / name).mkdir()
        (folder / name / "metrics.jsonl").write_text(text)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_says_what_where_and_how_to_mend_it(case: str, tmp_path: Path) -> None:
    line, what, where, mend = WRONG[case]
    set_up(tmp_path)
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "home" not in path.parts}
    started = time.monotonic()
    result = run(*line.split())
    seconds = time.monotonic() - started
    assert result.exit_code == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) <= 3
    assert lines[0].startswith("error: ")
    assert what in lines[0]
    assert where in lines[0]
    assert lines[1].startswith("  mend: ")
    assert mend in lines[1]
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "home" not in path.parts} == before
    # Generous: it is about not loading a model or starting a cluster first.
    assert seconds < 20


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_as_json(case: str, tmp_path: Path) -> None:
    line, what, where, mend = WRONG[case]
    set_up(tmp_path)
    result = run(*line.split(), "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout.splitlines()[-1])
    assert set(error) == {"error", "where", "mend"}
    assert what in f"{error['error']} {error['where']}"
    assert where in f"{error['error']} {error['where']}"
    assert mend in error["mend"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonesuch"],
        ["prepare", "--nonesuch"],
        ["prepare", "tiny", "more"],
        ["generate"],
        ["preview"],
        ["sample-data"],
        ["curves"],
        ["train", "tiny", "--price", "-1"],
        ["run", "tiny", "--budget", "much"],
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert "Traceback" not in result.output


def test_a_failure_of_ours_ends_with_1_and_leaves_its_traceback_in_a_file(tmp_path: Path) -> None:
    set_up(tmp_path)
    # Everything is right, so the command asks for a Ray, which fails here.
    result = run("prepare", "tiny", "--data", "raw", "--set", "model.base=model", "--out", "o", "--json")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    (log,) = (tmp_path / "home" / "logs").iterdir()
    assert "AssertionError: a Ray is asked for" in log.read_text()
    assert str(log) in json.loads(result.stdout.splitlines()[-1])["where"]
