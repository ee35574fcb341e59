"""The batch job killed at some moment and run again: everything is answered once, and exported."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from koala_ray import storage
from koala_ray.generate.exports import export_answers
from koala_ray.generate.store import PARTS
from koala_ray.preempt.arm import Arm
from koala_ray.preempt.fleet import wait_for
from koala_ray.preempt.machines import Machines, machines

pytestmark = pytest.mark.chaos
PATIENCE = 900.0
SETS = ("koala", "vicuna", "self-instruct")
PROMPTS = 180 + 80 + 252
SETTINGS = ("generate.max_tokens=8", "generate.replicas=2", "generate.cpus=1")


def stored(out: Path) -> list[str]:
    """The keys of all answers that are safe, each as often as it is there."""
    files = storage.list_files(str(out), [f"answers-*/{PARTS}"])
    lines = [line for file in files for line in Path(file.uri).read_text().split("\n") if line]
    return [json.loads(line)["key"] for line in lines]


def job(here: Machines, out: Path, data: Path, *settings: str) -> Arm:
    command = [sys.executable, "-m", "koala_ray", "generate", "--model", "smollm2-135m", "--prompts", ",".join(SETS)]
    arguments = [part for setting in settings for part in ("--set", setting)]
    env = {**os.environ, "RAY_ADDRESS": here.address}
    return Arm([*command, "--data", str(data), "--json", *arguments, "--out", str(out)], env)


def test_five_hundred_prompts_are_answered_once_though_the_driver_is_killed(tmp_path, real_data):
    with machines(2) as here:
        running = job(here, tmp_path, real_data, *SETTINGS)
        running.start()
        wait_for(
            lambda: len(stored(tmp_path)) > PROMPTS // 4 or not running.alive, PATIENCE, "a quarter of the answers"
        )
        assert running.alive, running.last_words()
        running.kill()
        before = stored(tmp_path)
        assert before
        running.start()
        wait_for(lambda: len(stored(tmp_path)) > PROMPTS // 2 or not running.alive, PATIENCE, "half of the answers")
        assert running.alive, running.last_words()
        here.lose(here.nodes[-1])
        here.add()
        running.finish(PATIENCE)
    figures = running.figures
    assert figures["asked"] == PROMPTS
    assert figures["answered"] + figures["failed"] == PROMPTS
    assert figures["answered"] == PROMPTS, figures
    assert max(Counter(stored(tmp_path)).values()) == 1
    assert set(before) <= set(stored(tmp_path))
    folders = [one["folder"] for one in figures["sets"]]
    target = tmp_path / "model_outputs.json"
    assert export_answers(folders, "alpaca-eval", str(target)) == PROMPTS
    from alpaca_eval.utils import load_or_convert_to_dataframe

    assert len(load_or_convert_to_dataframe(target)) == PROMPTS
