from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.tokens.pack import epoch_order, fill, pack


def first_fit_decreasing(lengths: list[int], context: int) -> int:
    """How many rows the textbook's packer needs."""
    spaces: list[int] = []
    for length in sorted(lengths, reverse=True):
        for place, space in enumerate(spaces):
            if space >= length:
                spaces[place] -= length
                break
        else:
            spaces.append(context - length)
    return len(spaces)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], int]:
    context = draw(st.integers(1, 300))
    return draw(st.lists(st.integers(1, context), max_size=150)), context


@settings(deadline=None, max_examples=200)
@given(cases())
def test_each_dialogue_is_in_one_row_and_no_row_is_too_long(case: tuple[list[int], int]) -> None:
    lengths, context = case
    rows = pack(lengths, context)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row for row in rows)
    assert all(sum(lengths[index] for index in row) <= context for row in rows)
    assert rows == pack(list(lengths), context)


@settings(deadline=None, max_examples=200)
@given(cases())
def test_the_rows_are_well_filled(case: tuple[list[int], int]) -> None:
    lengths, context = case
    rows = pack(lengths, context)
    least = -(-sum(lengths) // context)
    assert least <= len(rows)
    # Best-fit decreasing needs at most 11/9 of the rows that are needed, and about as many as first-fit.
    assert len(rows) <= first_fit_decreasing(lengths, context) + 1
    if len(rows) > 1:
        assert fill(lengths, len(rows), context) >= 0.5


@pytest.mark.parametrize("context", [512, 2048])
def test_a_realistic_mix_fills_more_than_99_percent(context: int) -> None:
    """Lengths as dialogue data has them: many short, a long tail, the longest cut to the context."""
    draw = random.Random(0)
    lengths = [min(context, max(20, int(draw.lognormvariate(5.3, 1.0)))) for _ in range(5000)]
    assert fill(lengths, len(pack(lengths, context)), context) >= 0.99


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([10], [[0]]),
        ([3, 7], [[1, 0]]),
        ([7, 7, 3, 3], [[0, 3], [1, 2]]),
        ([6, 8, 2, 4], [[1, 2], [0, 3]]),  # 2 goes to the row with the least space
        ([1] * 11, [list(range(10)), [10]]),
    ],
)
def test_the_longest_come_first_each_into_the_tightest_row(lengths: list[int], expected: list[list[int]]) -> None:
    assert pack(lengths, 10) == expected


@pytest.mark.parametrize("lengths", [[0], [11], [5, -1], [5, 11, 5]])
def test_a_length_out_of_range_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="between 1 and 10"):
        pack(lengths, 10)


def test_fill() -> None:
    assert fill([], 0, 10) == 0
    assert fill([5, 10], 2, 10) == 0.75
    assert fill([10, 10], 2, 10) == 1


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(), st.integers(0, 9))
def test_an_epoch_reads_each_row_once(rows: int, seed: int, epoch: int) -> None:
    order = epoch_order(rows, seed, epoch)
    assert sorted(order) == list(range(rows))
    assert order == epoch_order(rows, seed, epoch)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(100, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert tuple(range(100)) not in orders


def test_seed_and_epoch_are_not_mixed_up() -> None:
    assert epoch_order(50, 1, 11) != epoch_order(50, 11, 1)
    assert epoch_order(50, 1, 2) != epoch_order(50, 2, 1)


def test_the_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert epoch_order(12, seed=0, epoch=0) == [11, 7, 0, 9, 1, 5, 3, 4, 8, 10, 2, 6]
    assert epoch_order(12, seed=7, epoch=1) == [3, 10, 5, 4, 6, 1, 9, 11, 2, 0, 8, 7]
