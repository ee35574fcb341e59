"""Guards under DeepSpeed: what a step left out leaves behind under every ZeRO stage, and what a hang says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from guard_worker import CASES

WORKER = Path(__file__).with_name("guard_worker.py")


def launch(folder: Path, world: int) -> list[subprocess.Popen]:
    """The workers of one process group; what a worker found out is the last line of its output."""
    return [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder / "store"), str(rank), str(world)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def found_by(worker: subprocess.Popen) -> Any:
    out, err = worker.communicate(timeout=300)
    assert out, err[-2000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def workers(tmp_path_factory) -> list[Any]:
    """What a worker alone and two workers together found out; they run at the same time."""
    launched = [*launch(tmp_path_factory.mktemp("one"), 1), *launch(tmp_path_factory.mktemp("two"), 2)]
    try:
        return [found_by(worker) for worker in launched]
    finally:
        for worker in launched:
            worker.kill()


@pytest.fixture(scope="module")
def under_deepspeed(workers) -> dict[str, dict[str, Any]]:
    return workers[0]


@pytest.fixture(scope="module")
def two_workers(workers) -> list[dict[str, Any]]:
    return workers[1:]


@pytest.mark.parametrize("case", CASES)
def test_a_skipped_step_leaves_no_trace(under_deepspeed, case):
    found = under_deepspeed[case]
    assert found["moved by an ordinary step"]
    assert found["kept over nan"]
    assert found["kept over a spike"]
    assert found["then as if nothing had been"]


@pytest.mark.parametrize("case", CASES)
def test_a_skipped_step_is_told_whoever_skipped_it(under_deepspeed, case):
    nan, spike = under_deepspeed[case]["incidents"]
    assert (nan["what"], nan["action"], nan["loss"]) == ("nonfinite", "skip", None)
    assert (spike["what"], spike["action"]) == ("spike", "skip")
    assert (spike["rows"], spike["examples"]) == ([0, 1], ["a#0", "a#1"])


@pytest.mark.parametrize("case", CASES)
def test_a_stop_takes_no_step_either(under_deepspeed, case):
    assert under_deepspeed[case]["kept over the stop"]
    assert "training stopped before step 8: the gradient's norm" in under_deepspeed[case]["stop"]


def test_two_workers_judge_alike_and_tell_all_rows(two_workers):
    first, second = (worker["steps"] for worker in two_workers)
    assert first == second
    assert first["kept over nan"]  # only the second worker's row is poisoned
    assert first["then as if nothing had been"]
    told = [(incident["what"], incident["rows"], incident["examples"]) for incident in first["incidents"]]
    assert told == [("nonfinite", [0, 1], ["a#0", "a#1"]), ("spike", [0, 1], ["a#0", "a#1"])]


def test_a_worker_that_hangs_and_one_that_is_gone_are_explained(two_workers):
    hung, hung_still, gone = two_workers[0]["told"]
    assert hung.startswith("worker 0 waited 3 s for another worker, which hangs or is gone")
    assert hung_still == hung  # gloo says something else from the second call on
    assert gone.startswith("worker 0 lost another worker on 127.0.0.1: its process has ended")
    for message in (hung, gone):
        assert "see the other workers' logs" in message
        assert "\n" not in message
