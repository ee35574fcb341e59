"""The clock that takes a training step apart."""

from __future__ import annotations

import torch
from op_clock import OpClock, Profiled

VOCABULARY, HIDDEN, TOKENS = 300, 16, 20


def step() -> None:
    states, weight = torch.randn(TOKENS, HIDDEN), torch.randn(VOCABULARY, HIDDEN, requires_grad=True)
    torch.nn.functional.cross_entropy((states @ states.T @ states) @ weight.T, torch.arange(TOKENS)).backward()


def test_operations_are_told_apart():
    clock = OpClock(VOCABULARY, HIDDEN)
    with clock:
        step()
    assert set(clock.seconds["head: matrix products"]) == {"mm"}
    assert set(clock.seconds["layers: matrix products"]) == {"mm"}
    assert "_log_softmax" in clock.seconds["head: the rest"]


def test_the_table_adds_up_to_the_whole():
    clock = OpClock(VOCABULARY, HIDDEN)
    with clock:
        step()
    total = 2 * sum(ops.total() for ops in clock.seconds.values())
    rest = clock.table(total).splitlines()[-1]
    assert rest.startswith("| Python, autograd, this clock")
    assert "50%" in rest


def test_the_third_step_is_profiled():
    profiled = Profiled(VOCABULARY, HIDDEN)
    for number in range(4):
        assert not profiled.table, number
        profiled.turn()
        step()
    assert "head: matrix products" in profiled.table
