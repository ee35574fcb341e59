"""An object store that is gone for a minute: while a run goes on and its workers start again, and while it is asked."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter

import pytest
from faulty_s3 import FOREVER, FaultyS3, through
from object_store import new_bucket

from koala_ray import storage
from koala_ray.generate.batch import read_answers
from koala_ray.generate.store import PARTS
from koala_ray.preempt.arm import Arm
from koala_ray.preempt.drill import Drill
from koala_ray.preempt.fleet import wait_for
from koala_ray.preempt.machines import machines
from koala_ray.preempt.verdict import verdict

pytestmark = pytest.mark.chaos
SETTINGS = ["train.workers=2", "train.max_steps=60", "train.epochs=4", "train.checkpoint_every=2"]
GONE_SECONDS = 60.0
PATIENCE = 300.0
PROMPTS = 3000


def train(out: str, env: dict[str, str]) -> Arm:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return Arm([sys.executable, "-m", "koala_ray", "train", "tiny", "--json", *settings, "--out", out], env)


def said(arm: Arm, text: str) -> bool:
    assert arm.alive, arm.last_words()
    return any(text in line for _, line in arm.said)


def test_a_store_that_is_gone_for_a_minute(s3_endpoint, monkeypatch):
    bucket = new_bucket()
    # Before the machines: a worker has the environment of its machine, not of the command that started it.
    with FaultyS3(s3_endpoint) as faulty, through(faulty, monkeypatch, attempts=2), machines(2) as here:
        env = {**os.environ, "RAY_ADDRESS": here.address}
        quiet, disturbed = train(f"{bucket}/undisturbed", env), train(f"{bucket}/disturbed", env)
        quiet.start()
        quiet.finish(PATIENCE)
        disturbed.start()
        drill = Drill(here, disturbed, f"{bucket}/disturbed", 2, 0)
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


def ask(prompts: str, out: str, env: dict[str, str]) -> Arm:
    settings = ["--set", "generate.max_tokens=96", "--set", "generate.replicas=2"]
    command = [sys.executable, "-m", "koala_ray", "generate", "--model", "tiny", "--prompts", prompts, "--json"]
    return Arm([*command, *settings, "--out", out], env)


def answered(arm: Arm) -> int:
    """How many answers the job last told of."""
    counts = [found for _, line in arm.said if (found := re.search(r"([\d,]+)/[\d,]+ answers", line))]
    return int(counts[-1][1].replace(",", "")) if counts else 0


def test_answers_go_on_while_the_store_is_gone_and_each_is_kept_once(s3_endpoint, monkeypatch, tmp_path):
    prompts = tmp_path / "many.jsonl"
    prompts.write_text("".join(json.dumps({"id": str(n), "prompt": f"Count to {n}."}) + "\n" for n in range(PROMPTS)))
    bucket = new_bucket()
    with FaultyS3(s3_endpoint) as faulty, through(faulty, monkeypatch, attempts=2), machines(2) as here:
        env = {**os.environ, "RAY_ADDRESS": here.address}
        quiet = ask(str(prompts), f"{bucket}/quiet", env)
        quiet.start()
        quiet.finish(PATIENCE)
        disturbed = ask(str(prompts), f"{bucket}/disturbed", env)
        disturbed.start()
        wait_for(lambda: faulty.asked("PUT /.*/disturbed/answers-") or not disturbed.alive, PATIENCE, "a first part")
        faulty.refuse(times=FOREVER)
        gone = time.time()
        wait_for(lambda: said(disturbed, "trying again"), PATIENCE, "a word about the storage")
        before = answered(disturbed)
        wait_for(lambda: time.time() - gone > GONE_SECONDS, 2 * GONE_SECONDS, "a minute")
        assert disturbed.alive, disturbed.last_words()
        assert answered(disturbed) > before  # the replicas weren't kept waiting
        faulty.clear()
        disturbed.finish(PATIENCE)
        stores = storage.list_files(f"{bucket}/disturbed", [f"answers-*/{PARTS}"])
        lines = [line for file in stores for line in storage.read_bytes(file.uri).decode().split("\n") if line]
        given = [read_answers(arm.figures["folder"]) for arm in (quiet, disturbed)]
    assert disturbed.figures["answered"] == PROMPTS
    assert max(Counter(json.loads(line)["key"] for line in lines).values()) == 1
    assert [one.answer_ids for one in given[0]] == [one.answer_ids for one in given[1]]
