"""Packing: whole dialogues into rows of at most ``context`` tokens, and the order of the rows.

Best-fit decreasing fills rows best, but it puts dialogues of like length together: its last rows hold nothing but
short ones, and the learnt tokens of a batch swing with them. So the long dialogues, which hold most of the tokens,
are dealt out first, each to the emptiest of a fixed number of rows (worst-fit decreasing, the LPT rule of Graham
1969), and best-fit decreasing closes the gaps with the short ones, of which every row gets some. Rows are made once;
every epoch reads all of them in its own order.
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain

CLOSING_PERCENTS = range(5, 55, 5)
"""The parts of all tokens, in the shortest dialogues, that are tried in turn for closing the gaps. The fewer, the
better mixed are the rows, but the more gaps stay open."""
PER_MORE_ROW = 1000
"""Mixing may cost one row for so many."""
Rows = list[list[int]]


def pack(lengths: Sequence[int], context: int) -> Rows:
    """The packed rows as lists of indices into ``lengths``, ascending within a row.

    Depends on the lengths and their order only. Each index is in one row, and no row exceeds the context. There are
    at most 0.1 % more rows than best-fit decreasing gives: where mixing all of them takes more, the worst filled are
    packed again without it, as few as will do.

    Args:
        lengths: tokens of each dialogue, each between 1 and ``context``.
        context: tokens in a row at most.

    Raises:
        ValueError: a length is out of range.
    """
    if any(not 0 < length <= context for length in lengths):
        raise ValueError(f"every length must be between 1 and {context}")
    order = _falling(lengths, range(len(lengths)))
    falling = [lengths[index] for index in order]
    densest = len(set(_best_fit(falling, [], context)))
    most = densest + densest // PER_MORE_ROW
    dealt, before = _worst_fit(falling, densest, context), list(accumulate(falling, initial=0))
    fewest, found = len(order) + 1, dealt
    for percent in CLOSING_PERCENTS:
        first_short = bisect_left(before, before[-1] * (100 - percent) // 100)
        spaces = _spaces(falling, dealt[:first_short], densest, context)
        placed = dealt[:first_short] + _best_fit(falling[first_short:], spaces, context)
        rows = len(set(placed))
        if rows < fewest:
            fewest, found = rows, placed
        if rows <= most:
            break
    rows_found = _members(order, found)
    return rows_found if fewest <= most else _pack_worst_again(lengths, rows_found, context, most)


def _falling(lengths: Sequence[int], indices: Iterable[int]) -> list[int]:
    """Indices by falling length, equal ones in their order."""
    return sorted(sorted(indices), key=lambda index: -lengths[index])


def _worst_fit(lengths: Sequence[int], rows: int, context: int) -> list[int]:
    """The row of each length when it goes to the emptiest of so many, or to a further one where none takes it."""
    emptiest = [(-context, row) for row in range(rows)]
    placed = []
    for length in lengths:
        space, row = emptiest[0]
        if space + length <= 0:
            heapq.heapreplace(emptiest, (space + length, row))
        else:
            row = len(emptiest)
            heapq.heappush(emptiest, (length - context, row))
        placed.append(row)
    return placed


def _best_fit(lengths: Sequence[int], spaces: Sequence[int], context: int) -> list[int]:
    """The row of each length when it goes where the least space takes it: rows with spaces left, or further ones."""
    with_space: Rows = [[] for _ in range(context + 1)]
    there = 0  # bit s is set while some row has exactly s tokens of space
    for row, space in enumerate(spaces):
        with_space[space].append(row)
        there |= 1 << space
    rows = len(spaces)
    placed = []
    for length in lengths:
        fitting = there >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = with_space[space].pop()
            if not with_space[space]:
                there &= ~(1 << space)
        else:
            row, space, rows = rows, context, rows + 1
        with_space[space - length].append(row)
        there |= 1 << (space - length)
        placed.append(row)
    return placed


def _spaces(lengths: Sequence[int], placed: Sequence[int], rows: int, context: int) -> list[int]:
    """The space left in each row, of which there are at least ``rows``, once the first lengths are placed."""
    spaces = [context] * max(rows, max(placed, default=-1) + 1)
    for length, row in zip(lengths, placed, strict=False):
        spaces[row] -= length
    return spaces


def _members(order: Sequence[int], placed: Sequence[int]) -> Rows:
    """The indices in each row, ascending, without empty rows."""
    rows: Rows = [[] for _ in range(max(placed, default=-1) + 1)]
    for index, row in sorted(zip(order, placed, strict=True)):
        rows[row].append(index)
    return [row for row in rows if row]


def _pack_worst_again(lengths: Sequence[int], rows: Rows, context: int, most: int) -> Rows:
    """At most so many rows: the worst filled are packed again by best-fit decreasing, more of them each time."""
    by_fill = sorted(rows, key=lambda row: sum(lengths[index] for index in row))
    taken = 2 * (len(rows) - most)
    while True:
        kept = by_fill[taken:]
        order = _falling(lengths, chain.from_iterable(by_fill[:taken]))
        again = _members(order, _best_fit([lengths[index] for index in order], [], context))
        if len(kept) + len(again) <= most or not kept:
            return kept + again
        taken += taken // 2


def fill(lengths: Sequence[int], rows: int, context: int) -> float:
    """The part of the rows' places that hold tokens; 0 without rows."""
    return sum(lengths) / (rows * context) if rows else 0.0


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """The rows' order in one epoch: a permutation that depends on (rows, seed, epoch) only.

    Rows are sorted by a hash, so the order is the same on every platform and with every library's version.
    """

    def key(row: int) -> bytes:
        return hashlib.blake2b(f"{seed}/{epoch}/{row}".encode(), digest_size=16).digest()

    return sorted(range(rows), key=key)
