"""Checkpoints by the clock."""

from __future__ import annotations

import math

import pytest

from koala_ray.train.pace import LEAST_SECONDS, Pace


def test_every_so_many_minutes_since_the_last_one():
    pace = Pace(2, rate=0, now=1000)
    assert [pace.due(now, 1, 5) for now in (1000, 1119, 1120)] == [False, False, True]
    pace.saved(1120)
    assert not pace.due(1200, 1, 5)


def test_none_by_the_clock():
    assert not Pace(0, rate=1, now=0).due(1e9, 1, 1)
    assert not Pace("young", rate=0, now=0).due(1e9, 1, 1)


def test_young_balances_the_stall_and_what_a_reclaim_undoes():
    # Young 1974: the square root of twice the cost times the mean gap; Daly's terms are small here.
    pace = Pace("young", rate=0.25, now=0)
    assert pace.seconds(2.0, 10.0) == pytest.approx(math.sqrt(2 * 2.0 * 4 * 3600), rel=0.02)
    assert Pace("young", rate=2.0, now=0).seconds(2.0, 10.0) < pace.seconds(2.0, 10.0)


def test_young_is_never_shorter_than_a_checkpoint_takes():
    pace = Pace("young", rate=50, now=0)
    assert pace.seconds(0.0, 3.0) == LEAST_SECONDS
    assert pace.seconds(0.01, 90.0) == 90
