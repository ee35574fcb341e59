"""What a drill's two runs come to, from runs that were made up."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from koala_ray import storage
from koala_ray.checkpoint.manifest import RECORDS, format_records
from koala_ray.preempt.drill import Kill
from koala_ray.preempt.verdict import lines, verdict
from koala_ray.train.ledger import Attempt, utc, write_attempts


def step(number: int, time: float, loss: float = 2.0, stall: float = 0.0) -> dict:
    return {"kind": "step", "step": number, "time": time, "loss": loss, "seconds": 1.0, "checkpoint_stall": stall}


def run(folder, records: list[dict], weight: float = 1.0, repeated: int = 0) -> dict:
    """A finished run's folder, and what ``koala-ray train --json`` says of it."""
    folder.mkdir()
    (folder / RECORDS).write_bytes(format_records(records))
    (folder / "model").mkdir()
    save_file({"w": np.array([weight])}, folder / "model" / "model.safetensors")
    attempt = Attempt(started=utc(0), heartbeat=utc(99), nodes=1, gpus=0, price=None, repeated_steps=repeated)
    write_attempts(storage.join(str(folder), "attempts.jsonl"), [attempt])
    steps = [record for record in records if record["kind"] == "step"]
    return {"folder": str(folder), "model": str(folder / "model"), "steps": len(steps)}


START = {"kind": "start", "step": 0, "time": 99.0}


def test_two_runs_that_agree(tmp_path):
    quiet = run(tmp_path / "a", [START, *(step(place, 100.0 + place) for place in range(1, 5))])
    records = [
        START,
        step(1, 101),
        step(2, 102),
        {
            **START,
            "step": 2,
            "time": 112,
            "clock": {"began": 107.0, "imported": 108.5, "built": 110.0, "restored": 111.0},
        },
        step(3, 113, stall=0.2),
        step(4, 114),
    ]
    disturbed = run(tmp_path / "b", records, repeated=1)
    said = [(104.0, "train     worker 0 vanished: starting the workers again")]
    found = verdict(quiet, disturbed, [Kill("worker", 103.0, 2)], said)
    assert found["row_ids_equal"]
    assert found["weights_bit_identical"]
    assert found["loss_max_relative_difference"] == 0
    assert (found["rows_repeated"], found["rows_lost"], found["wasted_steps"]) == (0, 0, 1)
    (kill,) = found["kills"]
    assert kill["seconds_to_detect"] == 1
    assert kill["seconds_to_launch"] == 4
    assert (kill["seconds_of_imports"], kill["seconds_of_loading"]) == (1.5, 2.5)
    assert kill["seconds_to_start"] == 9
    assert kill["seconds_to_resume"] == found["seconds_to_resume"] == 10
    assert found["goodput"] == [1.0, round(4 / 14, 4)]
    assert found["checkpoint_stall"] == [0, round(0.2 / 4.2, 5)]
    # Four seconds of steps, a restart of ten, half of the one interval: 4 / (4 + 10 + 2).
    assert found["goodput_planned"] == 0.25
    assert any("identical, bit for bit" in line for line in lines(found))


@pytest.mark.parametrize("fault", ["lost", "repeated", "other loss", "other weights"])
def test_two_runs_that_do_not_agree(tmp_path, fault):
    quiet = run(tmp_path / "a", [START, *(step(place, 100.0 + place) for place in range(1, 5))])
    numbers = {"lost": [1, 2, 4], "repeated": [1, 2, 2, 3, 4]}.get(fault, [1, 2, 3, 4])
    records = [START, *(step(number, 100.0 + number) for number in numbers)]
    if fault == "other loss":
        records[-1]["loss"] = 2.02
    found = verdict(quiet, run(tmp_path / "b", records, weight=1.0 + (fault == "other weights")), [], [])
    assert found["row_ids_equal"] == (fault not in ("lost", "repeated"))
    assert found["rows_lost"] == (fault == "lost")
    assert found["rows_repeated"] == (fault == "repeated")
    assert found["weights_bit_identical"] == (fault != "other weights")
    if fault == "other loss":
        assert found["loss_max_relative_difference"] == pytest.approx(0.01)
