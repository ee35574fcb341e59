"""An object store that is gone for a minute while a run goes on, and while its workers start again."""

from __future__ import annotations

import os
import sys
import time

import pytest
from faulty_s3 import FOREVER, FaultyS3, through
from object_store import new_bucket

from koala_ray.preempt.drill import Arm, Drill
from koala_ray.preempt.machines import machines, wait_for
from koala_ray.preempt.verdict import verdict

pytestmark = pytest.mark.chaos
SETTINGS = ["train.workers=2", "train.max_steps=60", "train.epochs=4", "train.checkpoint_every=2"]
GONE_SECONDS = 60.0
PATIENCE = 300.0


def train(out: str, env: dict[str, str]) -> Arm:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return Arm([sys.executable, "-m", "koala_ray", "train", "tiny", "--json", *settings, "--out", out], env)


def said(arm: Arm, text: str) -> bool:
    assert arm.alive, arm.last_words()
    return any(text in line for _, line in arm.said)


def test_a_store_that_is_gone_for_a_minute(tmp_path, s3_endpoint, monkeypatch):
    bucket = new_bucket()
    # Before the machines: a worker has the environment of its machine, not of the command that started it.
    with FaultyS3(s3_endpoint) as faulty, through(faulty, monkeypatch, attempts=2), machines(2) as here:
        env = {**os.environ, "RAY_ADDRESS": here.address}
        quiet, disturbed = train(f"{bucket}/undisturbed", env), train(f"{bucket}/disturbed", env)
        quiet.start()
        quiet.finish(PATIENCE)
        disturbed.start()
        drill = Drill(here, disturbed, f"{bucket}/disturbed", 2, 0, str(tmp_path))
        wait_for(lambda: drill.safe() >= 6, PATIENCE, "the sixth step", every=0.2)
        faulty.refuse(times=FOREVER)
        gone = time.time()
        wait_for(lambda: said(disturbed, "no checkpoint at step"), PATIENCE, "a word about the storage")
        here.train_workers()[0].kill()
        wait_for(lambda: time.time() - gone > GONE_SECONDS, 2 * GONE_SECONDS, "a minute")
        assert disturbed.alive, disturbed.last_words()
        faulty.clear()
        disturbed.finish(PATIENCE)
        found = verdict(quiet.figures, disturbed.figures, [], disturbed.said)
    assert found["row_ids_equal"]
    assert found["loss_max_relative_difference"] == 0
    assert found["weights_bit_identical"]
