from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.train.schedule import learning_rate


def rates(steps: int, warmup: int, peak: float = 1.0, floor: float = 0.1) -> list[float]:
    return [learning_rate(step, steps, peak, warmup, floor) for step in range(steps)]


def test_warm_up_rises_linearly_to_the_peak() -> None:
    assert rates(100, 4, peak=2e-5)[:5] == pytest.approx([0.5e-5, 1e-5, 1.5e-5, 2e-5, 2e-5])


def test_the_cosine_ends_at_the_floor() -> None:
    for floor in (0.0, 0.1, 1.0):
        assert rates(50, 5, floor=floor)[-1] == pytest.approx(floor)
        assert rates(50, 0, floor=floor)[-1] == pytest.approx(floor)


def test_the_cosine_is_half_way_at_half_time() -> None:
    assert rates(101, 0, floor=0.2)[50] == pytest.approx(0.6)
    assert rates(111, 10, floor=0.0)[10 + 25] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_without_warm_up_it_begins_at_the_peak() -> None:
    assert rates(10, 0)[0] == 1.0


@pytest.mark.parametrize("warmup", [20, 21, 1000])
def test_a_warm_up_longer_than_the_run_is_cut_to_a_tenth(warmup: int) -> None:
    assert rates(20, warmup) == rates(20, 2)
    assert max(rates(20, warmup)) == 1.0


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
def test_the_shortest_runs_have_a_rate(steps: int, warmup: int) -> None:
    assert all(0 < rate <= 1 for rate in rates(steps, warmup))


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 300), st.integers(0, 400), st.floats(1e-6, 1), st.floats(0, 1))
def test_it_rises_to_the_peak_and_falls_to_the_floor(steps: int, warmup: int, peak: float, floor: float) -> None:
    found = rates(steps, warmup, peak, floor)
    assert max(found) == pytest.approx(peak)
    top = found.index(max(found))
    assert top <= warmup
    assert all(one <= other * (1 + 1e-12) for one, other in pairwise(found[: top + 1]))
    assert all(one >= other * (1 - 1e-12) for one, other in pairwise(found[top:]))
    assert min(found[top:]) >= peak * floor * (1 - 1e-12)
    assert min(found) >= 0


def test_the_line_falls_evenly_to_the_floor() -> None:
    falling = [learning_rate(step, 11, 1.0, 0, 0.2, "linear") for step in range(11)]
    assert falling == pytest.approx([1 - 0.08 * step for step in range(11)])


def test_constant_stays_at_the_peak_after_its_warm_up() -> None:
    rates_ = [learning_rate(step, 20, 1.0, 4, 0.1, "constant") for step in range(20)]
    assert rates_ == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 17])
