"""Packed rows become a flat micro-batch whose targets are the learnt tokens, each predicted from its own dialogue."""

from __future__ import annotations

from itertools import chain

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.records import packed_schema
from koala_ray.train.batch import micro_batch
from koala_ray.train.loss import backward_scale

ROW = {"epoch": 0, "examples": [], "groups": [], "learnt": 0}
EMPTY = {"input_ids": [], "learn": [], "lengths": []}


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
    batch = micro_batch(table(EMPTY))
    assert batch.input_ids.shape == (1, 1)
    assert batch.dialogue_lengths == (1,)
    assert batch.targets.shape == torch.Size([0])


@st.composite
def packed_rows(draw: st.DrawFn) -> list[dict]:
    """Rows of some dialogues each, with any mask that leaves first tokens out, and empty ones among them."""
    rows = []
    for lengths in draw(st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=1, max_size=5)):
        ids = draw(st.lists(st.integers(0, 99), min_size=sum(lengths), max_size=sum(lengths)))
        learn = [place > 0 and draw(st.booleans()) for length in lengths for place in range(length)]
        rows.append({"input_ids": ids, "learn": learn, "lengths": lengths})
    return rows


@given(packed_rows(), st.booleans())
def test_any_rows_are_laid_end_to_end(rows, chunked):
    whole = table(EMPTY, *rows, EMPTY)
    # As a reader gives them: slices of larger tables, put together.
    pieces = [whole.slice(place, 1) for place in range(1, len(rows) + 1)]
    batch = micro_batch(pa.concat_tables(pieces) if chunked else whole.slice(1, len(rows)))
    shown = [row if row["lengths"] else {"input_ids": [0], "learn": [False], "lengths": [1]} for row in rows]
    ids, learn, lengths = (list(chain.from_iterable(row[name] for row in shown)) for name in EMPTY)
    learnt = [place for place, learns in enumerate(learn) if learns]
    assert batch.input_ids.tolist() == [ids]
    assert batch.position_ids.tolist() == [[place for length in lengths for place in range(length)]]
    assert batch.dialogue_lengths == tuple(lengths)
    assert batch.predictors.tolist() == [place - 1 for place in learnt]
    assert batch.targets.tolist() == [ids[place] for place in learnt]
    for tensor in (batch.input_ids, batch.position_ids, batch.predictors, batch.targets):
        assert tensor.dtype == torch.long


@pytest.mark.parametrize(("learn", "lengths"), [([True, True], [2]), ([False, True, True], [2, 1])])
def test_a_first_token_can_not_be_learnt(learn, lengths):
    with pytest.raises(ValueError, match="first token"):
        micro_batch(table({"input_ids": list(range(len(learn))), "learn": learn, "lengths": lengths}))


def test_backward_scale_undoes_the_averages():
    assert backward_scale(workers=4, accumulation=2, learnt=16) == 0.5
    assert backward_scale(workers=4, accumulation=2, learnt=0) == 0.0
