from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import GROUPS, evaluation, records

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.train.curves.runs import (
    groups,
    last_figures,
    name_runs,
    of_kind,
    points,
    read_run,
    smoothed,
    speed,
    thin,
)

FLOATS = st.floats(-1e6, 1e6)


def test_points_leave_out_what_is_not_known() -> None:
    steps, values = points([{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3}], "loss")
    assert (steps.tolist(), values.tolist()) == ([1], [2.0])


def test_speed_is_tokens_by_seconds() -> None:
    steps, values = speed([{"step": 4, "tokens": 100, "seconds": 0.5}, {"step": 5, "tokens": 7, "seconds": 0.0}])
    assert (steps.tolist(), values.tolist()) == ([4], [200.0])


def test_each_group_has_its_losses() -> None:
    late = {**evaluation(5, 10), "groups": {"oig/none": {"loss": 1.5, "learnt": 3}, "hc3/none": {"loss": None}}}
    found = groups([evaluation(0, 10), late])
    assert list(found) == sorted([*GROUPS, "oig/none"]), "a group without a loss is left out"
    assert found["oig/none"][0].tolist() == [5]
    assert found["sharegpt/none"][1].tolist() == [2.4]


@given(st.lists(FLOATS, min_size=1, max_size=300))
def test_smoothing_stays_within_the_values_and_starts_at_the_first(values: list[float]) -> None:
    found = smoothed(np.array(values))
    assert len(found) == len(values)
    assert found[0] == pytest.approx(values[0])
    assert found.max() <= max(values) + 1e-6 * abs(max(values))
    assert found.min() >= min(values) - 1e-6 * abs(min(values))


def test_a_spike_leaves_no_trace_in_the_smoothed_line() -> None:
    values = np.linspace(3, 2, 100)
    values[40] = 1000.0
    assert smoothed(values).max() <= 3


def test_smoothing_follows_a_level_and_damps_noise() -> None:
    noise = np.random.default_rng(0).normal(2.0, 0.5, 1000)
    found = smoothed(noise)
    assert found[-1] == pytest.approx(2.0, abs=0.2)
    assert found[100:].std() < noise.std() / 3


@given(st.lists(FLOATS, max_size=400), st.integers(2, 50))
def test_thinning_keeps_the_extremes_and_the_order(values: list[float], most: int) -> None:
    steps, kept = thin((np.arange(len(values)), np.array(values)), most)
    assert len(kept) <= max(most, 2)
    assert (np.diff(steps) > 0).all()
    assert all(values[place] == value for place, value in zip(steps, kept, strict=True))
    if values:
        assert kept.min() == min(values)
        assert kept.max() == max(values)


def test_few_points_are_not_thinned() -> None:
    series = np.arange(5), np.ones(5)
    assert thin(series) is series


def test_a_long_run_is_drawn_with_2000_points_at_most() -> None:
    assert len(thin((np.arange(100_000), np.random.default_rng(0).normal(size=100_000)))[0]) <= 2000


def test_where_a_run_stands() -> None:
    made = records(steps=60, every=20, restart=20)
    steps = of_kind(made, "step")
    found = last_figures(made)
    assert found["steps"] == 60
    assert (found["loss_first"], found["loss_last"]) == (steps[0]["loss"], steps[-1]["loss"])
    assert found["heldout_loss_first"] == evaluation(0, 60)["heldout_loss"]
    assert found["heldout_loss_last"] == evaluation(60, 60)["heldout_loss"]
    assert found["heldout_groups"]["hh/negative"] == [
        evaluation(taken, 60)["groups"]["hh/negative"]["loss"] for taken in (0, 60)
    ]
    busy, tokens = sum(record["seconds"] for record in steps), sum(record["tokens"] for record in steps)
    assert found["tokens"] == tokens
    assert found["tokens_per_second"] == pytest.approx(tokens / busy, rel=1e-3)
    assert found["mfu"] == pytest.approx(tokens / busy * 8.1e8 / 4e12, abs=1e-4)
    assert found["data_wait"] == pytest.approx(sum(record["data_wait"] for record in steps) / busy, abs=1e-5)
    assert found["checkpoint_stall"] == pytest.approx(0.6)
    assert (found["restarts"], found["incidents"], found["workers"], found["device"]) == (1, 1, 2, "cpu")


def test_a_run_that_has_only_begun_stands_nowhere() -> None:
    found = last_figures([])
    assert (found["steps"], found["loss_last"], found["tokens_per_second"], found["mfu"]) == (0, None, None, None)


def test_runs_are_read_wherever_they_are(root: str) -> None:
    made = records(steps=4)
    folder = storage.join(root, "train-0123456789ab")
    data = "".join(json.dumps(record) + "\n" for record in made).encode()
    storage.write_atomic(storage.join(folder, "metrics.jsonl"), data)
    assert name_runs([folder, folder + "/"]) == {"train-0123456789ab": folder}
    assert read_run(folder) == made


def test_runs_of_the_same_name_go_by_their_paths() -> None:
    assert name_runs(["/a/train-0", "/b/train-0", "/b/train-1"]) == {
        "/a/train-0": "/a/train-0",
        "/b/train-0": "/b/train-0",
        "train-1": "/b/train-1",
    }


@pytest.mark.parametrize(
    "text",
    ['{"kind": "step"', "[1]\n", '{"step": 1}\n', json.dumps({"kind": "step", "step": 1, "loss": 1.0}) + "\n"],
)
def test_figures_that_can_not_be_read_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(KoalaError, match="can't be read") as refused:
        read_run(str(tmp_path))
    assert refused.value.where.endswith("metrics.jsonl")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KoalaError, match="no figures of a run") as refused:
        read_run(str(tmp_path))
    assert (refused.value.where, "train-" in refused.value.mend) == (str(tmp_path), True)
