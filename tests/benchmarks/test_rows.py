"""The training benchmarks' packed rows, made without Ray."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import Rows, make_rows

from koala_ray.tokens.shards import ShardReader, read_plan

LENGTHS = st.lists(st.integers(1, 500), min_size=16, max_size=64)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Rows:
    return make_rows(tmp_path_factory.mktemp("made") / "rows", "tiny", 256, None, Fraction(1))


def test_the_figures_are_those_of_the_shards(rows):
    plan = read_plan(rows.folder)
    assert (plan.rows, plan.tokens.sum(), plan.learnt.sum()) == (rows.packs, rows.tokens, rows.learnt)
    table = ShardReader(rows.folder).table(range(rows.packs))
    lengths = sorted(length for row in table["lengths"].to_pylist() for length in row)
    assert lengths == sorted(rows.lengths.tolist())


def test_the_line_names_the_counts(rows):
    assert f"{len(rows.lengths):,} dialogues" in rows.line()
    assert f"{rows.packs:,} packed rows of 256" in rows.line()


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 8))
def test_padding_costs_at_least_nothing(lengths, batch):
    found = Rows("", np.array(lengths), 0, 1, 500)
    assert found.padding(1) == 1
    assert 1 <= found.padding(batch) <= batch * max(lengths)


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 8))
def test_padding_is_free_where_all_are_of_one_length(length, batch):
    assert Rows("", np.full(16, length), 0, 1, 500).padding(batch) == 1
