from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from made_runs import GROUPS, STATUS, records
from wandb.proto.wandb_internal_pb2 import Record

from koala_ray.preempt.fleet import wait_for
from koala_ray.recipe import ReportSettings
from koala_ray.train.report import problems
from koala_ray.train.report.wandb import WandbSink, logged_in

BLOCK = 32768
"""What wandb stores offline is a log of LevelDB's format: blocks of records that may go over several of them."""


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))


def stored(folder: Path) -> list[Record]:
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data = path.read_bytes()
    found, place, part = [], 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if place + 7 + length > len(data):
            break  # it is being written
        part += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(part))
            part = b""
    return found


def kinds(folder: Path) -> list[str | None]:
    """What kinds of records are stored so far."""
    return [record.WhichOneof("record_type") for record in stored(folder)]


def logged(folder: Path) -> list[dict[str, Any]]:
    """What was logged, one mapping of names to values for each call."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in stored(folder)
        if record.WhichOneof("record_type") == "history"
    ]


def test_a_run_is_logged_under_its_own_name_and_steps(tmp_path: Path) -> None:
    made = records(steps=20, every=10)
    sink = WandbSink("koala", "train-0123456789ab", {"train": {"lr": 1e-4}})
    for record in made:
        sink.write(record, STATUS)
    sink.flush()
    sink.close()
    wait_for(lambda: kinds(tmp_path)[-1:] == ["exit"], 30, "wandb's own process to have written all")
    found = logged(tmp_path)
    losses = {row["step"]: row["train/loss"] for row in found if "train/loss" in row}
    assert losses == {record["step"]: record["loss"] for record in made if record["kind"] == "step"}
    evaluated = [row for row in found if "heldout/loss" in row]
    assert [row["step"] for row in evaluated] == [0, 10, 20]
    assert all(f"heldout/{group}" in row for row in evaluated for group in GROUPS)
    assert all("samples" in row or "samples/_type" in row for row in evaluated)
    assert sum(any(name.startswith("incidents") for name in row) for row in found) == 1
    runs = [record.run for record in stored(tmp_path) if record.WhichOneof("record_type") == "run"]
    assert {(run.run_id, run.project, run.display_name) for run in runs} == {
        ("train-0123456789ab", "koala", "train-0123456789ab")
    }
    tables = [json.loads(path.read_text()) for path in tmp_path.glob("wandb/*/files/media/table/samples_*.json")]
    assert [0, "Question 0: why is\nthe sky <blue>?", "Answer 0 after 0 steps."] in [t["data"][0] for t in tables]


def test_offline_needs_no_login() -> None:
    assert logged_in()
    assert problems(ReportSettings(tensorboard=False, wandb="koala")) == []
