from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.plan.reclaims import Reclaims, best_interval, expected_hours, simulated_hours


@pytest.mark.parametrize("commit", [0.0, 2 / 60, 6 / 60])
@pytest.mark.parametrize(
    ("work", "segments", "rate"),
    [(8.0, 16, 0.25), (8.0, 1, 0.25), (6.0, 12, 1.0), (3.0, 1, 1.0), (20.0, 20, 0.05)],
    ids=["often", "one at the end", "busy region", "busy, one at the end", "calm"],
)
def test_the_closed_form_is_what_a_simulation_gives(work: float, segments: int, rate: float, commit: float) -> None:
    reclaims = Reclaims(rate, restart=8 / 60, stall=1 / 60, commit=commit)
    expected = expected_hours(work, work / segments, reclaims)
    played = simulated_hours(work, work / segments, reclaims, runs=3000)
    error = float(played.std() / math.sqrt(len(played)))
    # A run's first segment has no commit of an earlier one to wait for, which the closed form doesn't know.
    assert abs(played.mean() - expected) < 4 * error + rate * commit * expected / segments
    assert 4 * error < 0.15 * expected


def test_announced_reclaims_cost_the_restart_alone() -> None:
    reclaims = Reclaims(0.5, restart=0.1, stall=0.0, commit=0.05, announced=1.0)
    played = simulated_hours(10.0, 1.0, reclaims, runs=4000)
    expected = expected_hours(10.0, 1.0, reclaims)
    assert expected == pytest.approx(10 * math.exp(0.05) + 0.05)
    assert played.mean() == pytest.approx(expected, rel=0.01)


def test_some_announced_lie_between_none_and_all() -> None:
    none, half, most = (Reclaims(1.0, 0.1, 0.01, 0.05, part) for part in (0.0, 0.5, 1.0))
    hours = [expected_hours(10.0, 0.5, reclaims) for reclaims in (most, half, none)]
    played = [simulated_hours(10.0, 0.5, reclaims).mean() for reclaims in (most, half, none)]
    assert hours == sorted(hours)
    assert played == sorted(played)
    # An announced reclaim saves as a checkpoint does, which the closed form leaves out: it is on the careful side.
    assert played[1] < hours[1] < 1.05 * played[1]


def test_runs_are_played_by_seed_and_given_up_when_they_dont_end() -> None:
    reclaims = Reclaims(1.0, 0.1, 0.01)
    assert (simulated_hours(5.0, 0.5, reclaims, 50, 1) == simulated_hours(5.0, 0.5, reclaims, 50, 1)).all()
    assert (simulated_hours(5.0, 0.5, reclaims, 50, 1) != simulated_hours(5.0, 0.5, reclaims, 50, 2)).any()
    assert np.isinf(simulated_hours(1.0, 1.0, Reclaims(20.0, 0.1, 0.01), runs=3)).all()


def test_to_first_order_a_reclaim_costs_half_an_interval_and_the_restart() -> None:
    work, interval, checkpoint, restart, rate = 10.0, 0.5, 0.02, 0.1, 0.01
    commit = 0.05
    undisturbed = work + work / interval * checkpoint + commit
    lost = undisturbed * rate * ((interval + checkpoint) / 2 + restart + commit)
    assert expected_hours(work, interval, Reclaims(rate, restart, checkpoint, commit)) - undisturbed == pytest.approx(
        lost, rel=0.01
    )


@settings(deadline=None)
@given(st.floats(1, 100), st.floats(0.001, 0.1), st.floats(0.001, 1))
def test_no_other_interval_is_much_better(work: float, checkpoint: float, rate: float) -> None:
    best = best_interval(work, checkpoint, rate)
    at_best = expected_hours(work, best, Reclaims(rate, 0.1, checkpoint))
    for factor in (0.25, 0.5, 0.8, 1.25, 2, 4):
        other = min(work, best * factor)
        # Whole segments only: with few of them the best one may lie a little beside.
        assert at_best <= expected_hours(work, other, Reclaims(rate, 0.1, checkpoint)) * 1.02


def test_youngs_interval_to_first_order() -> None:
    # 60 s a checkpoint, 4 hours between reclaims: √(2 · 60 · 14,400) s ≈ 22 minutes.
    assert 60 * best_interval(6, 60 / 3600, 0.25) == pytest.approx(22, abs=0.8)


def test_without_reclaims_one_checkpoint_at_the_end_is_best() -> None:
    assert best_interval(8, 0.05, 0) == 8
    assert expected_hours(8, 8, Reclaims(0, 0.1, 0.05)) == pytest.approx(8.05)


def test_small_rates_go_over_into_none() -> None:
    rare, none = Reclaims(1e-7, 0.1, 0.05), Reclaims(0, 0.1, 0.05)
    assert expected_hours(8, 1, rare) == pytest.approx(expected_hours(8, 1, none), rel=1e-5)


def test_a_run_that_never_ends_is_infinite_and_no_error() -> None:
    assert expected_hours(10_000, 10_000, Reclaims(1.0, 0.1, 0.1)) == math.inf


def test_no_work_takes_no_time() -> None:
    assert expected_hours(0, 1, Reclaims(0.25, 0.1, 0.1)) == 0
