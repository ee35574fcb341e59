from __future__ import annotations

import bisect
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.tokens.pack import epoch_order, fill, pack


def best_fit_decreasing(lengths: list[int], context: int) -> list[list[int]]:
    """The textbook's packer: the longest first, each into the row with the least space that takes it."""
    rows: list[list[int]] = []
    spaces: list[tuple[int, int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        place = bisect.bisect_left(spaces, (lengths[index], -1))
        space, row = spaces.pop(place) if place < len(spaces) else (context, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        bisect.insort(spaces, (space - lengths[index], row))
    return rows


def variation(values: list[int]) -> float:
    """Standard deviation ÷ mean."""
    return statistics.pstdev(values) / statistics.mean(values)


def real_looking(context: int, count: int, seed: int = 0, shortest: int = 20) -> list[int]:
    """Lengths as dialogue data has them: many short, a long tail, the longest cut to the context."""
    draw = random.Random(seed)
    return [min(context, max(shortest, int(draw.lognormvariate(5.3, 0.8)))) for _ in range(count)]


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
    assert all(row == sorted(row) and row for row in rows)
    assert all(sum(lengths[index] for index in row) <= context for row in rows)
    assert rows == pack(list(lengths), context)


@settings(deadline=None, max_examples=200)
@given(cases())
def test_mixing_takes_no_row_more_than_best_fit_decreasing(case: tuple[list[int], int]) -> None:
    lengths, context = case
    assert -(-sum(lengths) // context) <= len(pack(lengths, context)) <= len(best_fit_decreasing(lengths, context))


@pytest.mark.parametrize("context", [512, 2048])
@pytest.mark.parametrize("count", [500, 10_000])
def test_of_many_rows_one_in_a_thousand_is_the_price_of_mixing(context: int, count: int) -> None:
    lengths = real_looking(context, count)
    least = len(best_fit_decreasing(lengths, context))
    assert len(pack(lengths, context)) <= least + least // 1000


@pytest.mark.parametrize("context", [512, 2048])
def test_a_realistic_mix_fills_more_than_99_percent(context: int) -> None:
    lengths = real_looking(context, 5000)
    assert fill(lengths, len(pack(lengths, context)), context) >= 0.995


@pytest.mark.parametrize(("context", "seed"), [(1024, 0), (2048, 0), (2048, 1), (2048, 2)])
def test_lengths_are_mixed_inside_rows(context: int, seed: int) -> None:
    lengths = real_looking(context, 3000, seed)
    mixed = [len(row) for row in pack(lengths, context)]
    dense = [len(row) for row in best_fit_decreasing(lengths, context)]
    assert variation(mixed) < 0.65 * variation(dense)
    assert max(mixed) < 0.7 * max(dense)


def test_learnt_tokens_vary_less_where_short_answers_are_learnt_whole() -> None:
    """As real data has it: of long dialogues a smaller part is learnt than of short ones."""
    lengths = real_looking(2048, 4000)
    learnt = [length if length < 150 else length // 3 for length in lengths]
    by_row = {
        way: variation([sum(learnt[index] for index in row) for row in way(lengths, 2048)])
        for way in (pack, best_fit_decreasing)
    }
    assert by_row[pack] < 0.6 * by_row[best_fit_decreasing]


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_where_too_few_are_short_to_close_all_gaps_most_rows_stay_mixed(seed: int) -> None:
    lengths = real_looking(2048, 2000, seed, shortest=120)
    rows, dense = pack(lengths, 2048), best_fit_decreasing(lengths, 2048)
    assert len(rows) == len(dense)
    assert variation([len(row) for row in rows]) < 0.65 * variation([len(row) for row in dense])


@pytest.mark.parametrize("share", [0.21, 0.26, 0.34])
def test_where_nothing_is_short_there_are_no_more_rows_than_unmixed(share: float) -> None:
    draw = random.Random(0)
    lengths = [int(draw.gauss(share * 512, 10)) for _ in range(2000)]
    rows = pack(lengths, 512)
    assert sorted(index for row in rows for index in row) == list(range(2000))
    assert len(rows) <= 1.001 * len(best_fit_decreasing(lengths, 512))


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        ([], 0),
        ([10], 1),
        ([3, 7], 1),
        ([5] * 9, 5),
        ([6] * 9, 9),
        ([1] * 95, 10),
        ([10] * 7, 7),
        ([6, 4] * 8, 8),
        ([4, 3, 3] * 7, 8),
    ],
)
def test_extreme_lengths(lengths: list[int], rows: int) -> None:
    packed = pack(lengths, 10)
    assert len(packed) == rows
    assert sorted(index for row in packed for index in row) == list(range(len(lengths)))


def test_long_ones_are_dealt_out_and_short_ones_close_the_gaps() -> None:
    # 60 and 50 open the two rows, 30 and the others go to the emptier one, the last two 5s where they just fit.
    assert pack([50, 60, 30, 10, 10, 10, 10, 5, 5, 5, 5], 100) == [[1, 3, 4, 5, 7, 10], [0, 2, 6, 8, 9]]


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
