from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.plan.reclaims import best_interval, expected_hours


def simulated_hours(
    work: float, segments: int, checkpoint: float, restart: float, rate: float, runs: int
) -> tuple[float, float]:
    """Mean hours of runs in which reclaims fall at random, and the mean's standard error."""
    random = np.random.default_rng(0)
    hours = np.zeros(runs)
    for run in range(runs):
        for _ in range(segments):
            needed = work / segments + checkpoint
            while (gap := random.exponential(1 / rate)) < needed:
                hours[run] += gap
                while (again := random.exponential(1 / rate)) < restart:
                    hours[run] += again
                hours[run] += restart
            hours[run] += needed
    return float(hours.mean()), float(hours.std() / math.sqrt(runs))


@pytest.mark.parametrize(
    ("work", "segments", "rate"),
    [(8.0, 16, 0.25), (8.0, 1, 0.25), (6.0, 12, 1.0), (3.0, 1, 1.0), (20.0, 20, 0.05)],
    ids=["often", "one at the end", "busy region", "busy, one at the end", "calm"],
)
def test_the_closed_form_is_what_a_simulation_gives(work: float, segments: int, rate: float) -> None:
    checkpoint, restart = 2 / 60, 8 / 60
    expected = expected_hours(work, work / segments, checkpoint, restart, rate)
    found, error = simulated_hours(work, segments, checkpoint, restart, rate, runs=4000)
    assert abs(found - expected) < 4 * error
    assert 4 * error < 0.15 * expected


def test_to_first_order_a_reclaim_costs_half_an_interval_and_the_restart() -> None:
    work, interval, checkpoint, restart, rate = 10.0, 0.5, 0.02, 0.1, 0.01
    undisturbed = work + work / interval * checkpoint
    lost = undisturbed * rate * ((interval + checkpoint) / 2 + restart)
    assert expected_hours(work, interval, checkpoint, restart, rate) - undisturbed == pytest.approx(lost, rel=0.01)


@settings(deadline=None)
@given(st.floats(1, 100), st.floats(0.001, 0.1), st.floats(0.001, 1))
def test_no_other_interval_is_much_better(work: float, checkpoint: float, rate: float) -> None:
    best = best_interval(work, checkpoint, rate)
    at_best = expected_hours(work, best, checkpoint, 0.1, rate)
    for factor in (0.25, 0.5, 0.8, 1.25, 2, 4):
        other = min(work, best * factor)
        # Whole segments only: with few of them the best one may lie a little beside.
        assert at_best <= expected_hours(work, other, checkpoint, 0.1, rate) * 1.02


def test_youngs_interval_to_first_order() -> None:
    # 60 s a checkpoint, 4 hours between reclaims: √(2 · 60 · 14,400) s ≈ 22 minutes.
    assert 60 * best_interval(6, 60 / 3600, 0.25) == pytest.approx(22, abs=0.8)


def test_without_reclaims_one_checkpoint_at_the_end_is_best() -> None:
    assert best_interval(8, 0.05, 0) == 8
    assert expected_hours(8, 8, 0.05, 0.1, 0) == pytest.approx(8.05)


def test_small_rates_go_over_into_none() -> None:
    assert expected_hours(8, 1, 0.05, 0.1, 1e-7) == pytest.approx(expected_hours(8, 1, 0.05, 0.1, 0), rel=1e-5)


def test_a_run_that_never_ends_is_infinite_and_no_error() -> None:
    assert expected_hours(10_000, 10_000, 0.1, 0.1, 1.0) == math.inf


def test_no_work_takes_no_time() -> None:
    assert expected_hours(0, 1, 0.1, 0.1, 0.25) == 0
