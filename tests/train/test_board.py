"""What travels from the workers to the driver."""

from __future__ import annotations

import json
from math import inf, nan

from koala_ray.train.board import Board, plain


def test_numbers_that_are_not_finite_become_null():
    record = {"loss": nan, "step": 3, "groups": {"hh/none": {"loss": -inf, "learnt": 2}}, "rows": [1, inf], "lr": 0.5}
    text = json.dumps(plain(record), allow_nan=False)
    assert json.loads(text) == {
        "loss": None, "step": 3, "groups": {"hh/none": {"loss": None, "learnt": 2}}, "rows": [1, None], "lr": 0.5
    }  # fmt: skip


def test_messages_come_in_order_and_once():
    board = Board()
    for step in range(3):
        board.post({"step": step})
    assert board.since(1) == [{"step": 1}, {"step": 2}]
    assert board.since(3) == []
