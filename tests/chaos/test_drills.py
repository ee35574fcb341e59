"""Runs disturbed at random, by seed, that end as if nothing had been: workers × ZeRO stages × kills."""

from __future__ import annotations

import random

import pytest

from koala_ray.preempt.drill import run_drill
from koala_ray.preempt.machines import machines

SHORT = [
    "train.max_steps=24", "train.checkpoint_every=2", "train.micro_rows=1", "train.heldout_rows=0",
    "train.dropout=0.1", "guards.hang_seconds=15", "retries.settle_seconds=1", "report.tensorboard=false",
]  # fmt: skip
KILLS = ("worker", "workers_all", "hang", "node", "driver", "upload", "notice")
EACH = 3
"""Kills in a run."""


def disturbed(tmp_path, workers: int, stage: int, kinds: list[str], seed: int, *more: str) -> dict:
    settings = [*SHORT, f"train.zero_stage={stage}", *more]
    with machines(workers) as here:
        return run_drill("tiny", str(tmp_path), settings, kinds, workers, seed, here)


def check(found: dict) -> None:
    assert found["row_ids_equal"]
    assert found["rows_lost"] == found["rows_repeated"] == 0
    # Unannounced: what was taken since the last checkpoint, which is two steps, and what was on its way to one.
    assert found["wasted_steps"] <= 4 * len(found["kills"])


@pytest.mark.chaos
def test_a_notice_and_a_machine_that_comes_back_later(tmp_path):
    """The real agent, a restart elsewhere, fewer workers and more again."""
    found = disturbed(tmp_path, 2, 2, ["notice", "shrink"], 0, "train.max_steps=48", "train.epochs=4")
    check(found)
    assert found["loss_max_relative_difference"] <= 1e-4
    assert found["kills"][0]["detail"].startswith("the workers left after")
    assert found["kills"][1]["detail"] == "2 workers, then 1, then 2"


@pytest.mark.chaos
def test_notices_that_come_too_late_twice_at_once_or_not_at_all(tmp_path):
    found = disturbed(tmp_path, 2, 1, ["notice_short", "notice_two", "agent"], 0)
    check(found)
    assert found["loss_max_relative_difference"] == 0
    assert found["weights_bit_identical"]
    assert found["kills"][1]["detail"].startswith("the workers left after")


@pytest.mark.chaos
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_whatever_is_killed_the_run_ends_as_the_undisturbed_one(tmp_path, workers, stage):
    seed = 10 * workers + stage
    kinds = random.Random(seed).sample([kind for kind in KILLS if workers > 1 or kind != "hang"], EACH)
    found = disturbed(tmp_path, workers, stage, kinds, seed)
    check(found)
    assert found["loss_max_relative_difference"] == 0
    assert found["weights_bit_identical"]


@pytest.mark.chaos
def test_a_lone_worker_is_killed_more_often_than_errors_are_forgiven(tmp_path):
    found = disturbed(tmp_path, 1, 0, ["worker"] * 4, 0)
    check(found)
    assert found["weights_bit_identical"]


@pytest.mark.chaos
def test_twenty_kills_in_one_run(tmp_path):
    kinds = random.Random(7).choices([kind for kind in KILLS if kind != "hang"], k=20)
    with machines(2) as here:
        settings = [*SHORT, "train.max_steps=130", "train.epochs=6", "train.zero_stage=1"]
        found = run_drill("tiny", str(tmp_path), settings, kinds, 2, 7, here)
    check(found)
    assert found["weights_bit_identical"]
