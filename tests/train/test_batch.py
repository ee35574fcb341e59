"""Packed rows become a flat micro-batch whose targets are the learnt tokens, each predicted from its own dialogue."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from koala_ray.records import packed_schema
from koala_ray.train.batch import micro_batch
from koala_ray.train.loss import backward_scale

ROW = {"epoch": 0, "examples": [], "learnt": 0}


def table(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist([{"gidx": place, **ROW, **row} for place, row in enumerate(rows)], packed_schema())


def test_flat_sequence_positions_and_targets():
    batch = micro_batch(
        table(
            {"input_ids": [5, 6, 7, 8, 9], "learn": [False, True, True, False, True], "lengths": [3, 2]},
            {"input_ids": [1, 2], "learn": [False, True], "lengths": [2]},
        )
    )
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 1, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch.dialogue_lengths == (3, 2, 2)
    assert batch.predictors.tolist() == [0, 1, 3, 5]
    assert batch.targets.tolist() == [6, 7, 9, 2]


def test_a_row_of_weight_zero_runs_and_teaches_nothing():
    batch = micro_batch(table({"input_ids": [], "learn": [], "lengths": []}))
    assert batch.input_ids.shape == (1, 1)
    assert batch.dialogue_lengths == (1,)
    assert batch.targets.shape == torch.Size([0])


@pytest.mark.parametrize(("learn", "lengths"), [([True, True], [2]), ([False, True, True], [2, 1])])
def test_a_first_token_can_not_be_learnt(learn, lengths):
    with pytest.raises(ValueError, match="first token"):
        micro_batch(table({"input_ids": list(range(len(learn))), "learn": learn, "lengths": lengths}))


def test_backward_scale_undoes_the_averages():
    assert backward_scale(workers=4, accumulation=2, learnt=16) == 0.5
    assert backward_scale(workers=4, accumulation=2, learnt=0) == 0.0
