"""The GPU check, on the CPU: a whole way in a process of its own, and what it takes for a mismatch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from math import inf, nan
from pathlib import Path

import pytest
from gpu_check import NO_GPU, Planned, mismatches, planned, table
from gpu_ways import Result, Way, run
from rows import make_rows

SCRIPT = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "gpu_check.py"
WAY = Way(
    model="tiny",
    rows="",
    out="",
    device="cpu",
    workers=1,
    zero=2,
    loss="chunked",
    context=512,
    steps=3,
    micro_rows=1,
    accumulation=1,
    checkpointing=False,
)
FOUND = Result([5.0, 4.0], [1.0, 1.0, 1.0], [10, 10, 10], 100, apart=0.0, erased=0.1, device="cpu")
PLAN = Planned(peak_bytes=100, flops_per_token=1.0, peak_flops=None)


@pytest.fixture(scope="module")
def way(tmp_path_factory) -> Way:
    folder = tmp_path_factory.mktemp("check")
    rows = make_rows(folder / "rows", "tiny", WAY.context, None, Fraction(1))
    return replace(WAY, rows=rows.folder, out=str(folder / "zero3.json"), zero=3)


def test_a_way_trains_and_keeps_dialogues_apart(way):
    result = run(way)
    assert len(result.losses) == len(result.seconds) == way.steps
    assert result.losses[-1] < result.losses[0]
    plan = planned(way, result)
    assert plan.peak_bytes > 0
    assert mismatches([(way, result, plan)]) == []
    assert "ZeRO-3, chunked loss" in table([(way, result, plan)])


def test_nothing_wrong():
    other = replace(WAY, zero=3)
    assert mismatches([(WAY, FOUND, PLAN), (other, replace(FOUND, losses=[5.0001, 4.0001]), PLAN)]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"losses": [5.0, 4.1]}, "off those of ZeRO-2"),
        ({"losses": [5.0, nan]}, "not finite"),
        ({"losses": [5.0, inf]}, "not finite"),
        ({"apart": 0.05}, "off those alone"),
        ({"erased": 0.0}, "off those alone"),
        ({"apart": nan}, "off those alone"),
        ({"peak_bytes": 116}, "the plan says"),
        ({"peak_bytes": 84}, "the plan says"),
    ],
)
def test_what_is_wrong_is_said(change, said):
    wrong = mismatches([(WAY, FOUND, PLAN), (replace(WAY, zero=3), replace(FOUND, **change), PLAN)])
    assert len(wrong) == 1
    assert wrong[0].startswith("ZeRO-3, chunked loss: ")
    assert said in wrong[0]


def test_a_worker_that_fails_ends_the_check(tmp_path):
    with pytest.raises(SystemExit, match=r"worker 0 failed[\s\S]*train.loss"):
        run(replace(WAY, out=str(tmp_path / "out.json"), loss="none"))


def test_without_a_gpu_it_says_so():
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=60, env=hidden)
    assert done.returncode == NO_GPU
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "no CUDA GPU" in done.stderr
