"""The ways of the loss benchmark give one loss."""

from __future__ import annotations

import pytest
from bench_loss_memory import Case, run


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_all_ways_give_the_same_loss(share):
    ways = [("all places", 0), ("learnt", 0), ("koala-ray", 5), ("koala-ray", 100)]
    losses = [run(Case(way, 300, 16, 40, share, chunk, 1, 1))["loss"] for way, chunk in ways]
    assert losses == pytest.approx([losses[0]] * len(ways), rel=1e-5)
