"""The plan's order through Ray Data: who reads which rows, rows of weight zero, and the check on arrival."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.tokens.shards import Dialogues, write_shards
from koala_ray.train.data import STEPS_PER_BLOCK, PlanSource, batches, begun, checked, layout, read_rows, rows_of


@st.composite
def runs(draw) -> tuple[int, int, int, int]:
    """(first step, last step, workers, rows in a global batch)"""
    workers = draw(st.integers(1, 5))
    first = draw(st.integers(0, 30))
    return first, first + draw(st.integers(0, 40)), workers, workers * draw(st.integers(1, 4))


@given(run=runs())
def test_a_workers_blocks_give_its_rows_in_order(run):
    first, last, workers, batch_rows = run
    for rank in range(workers):
        blocks = list(layout(first, last, rank, workers, batch_rows))
        rows = [gidx for block in blocks for gidx in block]
        assert rows == [gidx for step in range(first, last) for gidx in rows_of(step, rank, workers, batch_rows)]
        assert len(blocks) == -(-(last - first) // STEPS_PER_BLOCK)


@given(run=runs())
def test_a_step_reads_its_global_batch_whoever_reads(run):
    first, last, workers, batch_rows = run
    for step in range(first, last):
        rows = [gidx for rank in range(workers) for gidx in rows_of(step, rank, workers, batch_rows)]
        assert rows == list(range(step * batch_rows, (step + 1) * batch_rows))


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Five packed rows of one dialogue each, of 3, 4, 5, 6 and 7 tokens."""
    lengths = np.array([3, 4, 5, 6, 7])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    learn = np.ones(starts[-1], bool)
    learn[starts[:-1]] = False
    names = pa.array([f"d{place}" for place in range(5)])
    groups = pa.array(["s/none"] * 5).dictionary_encode()
    dialogues = Dialogues(np.arange(starts[-1], dtype=np.int32), learn, starts, lengths - 1, names, groups)
    assert write_shards(str(tmp_path), dialogues, [[place] for place in range(5)], epochs=1, seed=0) == 5
    return str(tmp_path)


def test_rows_beyond_the_plan_have_weight_zero(shards):
    table = read_rows(shards, 5, range(3, 8))
    assert table["gidx"].to_pylist() == [3, 4, 5, 6, 7]
    assert [len(ids) for ids in table["input_ids"].to_pylist()][2:] == [0, 0, 0]
    assert table["learnt"].to_pylist()[2:] == [0, 0, 0]
    assert min(table["learnt"].to_pylist()[:2]) > 0


def test_the_source_has_a_task_for_each_block(shards):
    tasks = PlanSource(shards, 5, [[0, 1], [2, 3], [4, 5]]).get_read_tasks(200)
    tables = [table for task in tasks for table in task()]
    assert [table["gidx"].to_pylist() for table in tables] == [[0, 1], [2, 3], [4, 5]]
    assert [task.metadata.num_rows for task in tasks] == [2, 2, 2]


def test_a_worker_stops_at_rows_that_are_not_its_own(shards):
    batches = [read_rows(shards, 5, [0, 1]), read_rows(shards, 5, [4, 3])]
    stream = checked(batches, first_step=0, rank=0, workers=1, batch_rows=2)
    step, table = next(stream)
    assert (step, table["gidx"].to_pylist()) == (0, [0, 1])
    with pytest.raises(RuntimeError, match=r"step 1, worker 0: got rows \[4, 3\], the plan says \[2, 3\]"):
        next(stream)


def test_a_run_of_a_few_steps_needs_no_pipeline(shards):
    found = list(batches(shards, 0, 3, rank=1, workers=2, batch_rows=2))
    assert [(step, table["gidx"].to_pylist()) for step, table in found] == [(0, [1]), (1, [3]), (2, [5])]


def test_the_first_table_is_fetched_before_it_is_asked_for():
    fetched = threading.Event()

    def tables():
        fetched.set()
        yield from "abc"

    found = begun(tables())
    assert fetched.wait(10)
    assert list(found) == ["a", "b", "c"]


def test_a_run_that_is_done_needs_no_block():
    assert list(layout(7, 7, 0, 2, 4)) == []
