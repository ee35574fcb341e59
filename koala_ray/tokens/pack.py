"""Packing: whole dialogues into rows of at most ``context`` tokens, and the order of the rows.

Best-fit decreasing over all dialogues at once: the longest first, each into the row with the least space that
still takes it. Rows are made once; every epoch reads all of them in its own order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def pack(lengths: Sequence[int], context: int) -> list[list[int]]:
    """The packed rows as lists of indices into ``lengths``.

    Depends on the lengths and their order only. Each index is in one row, and no row exceeds the context.

    Args:
        lengths: tokens of each dialogue, each between 1 and ``context``.
        context: tokens in a row at most.

    Raises:
        ValueError: a length is out of range.
    """
    if any(not 0 < length <= context for length in lengths):
        raise ValueError(f"every length must be between 1 and {context}")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    rows: list[list[int]] = []
    with_space: list[list[int]] = [[] for _ in range(context + 1)]
    spaces = 0  # bit s is set while some row has exactly s tokens of space
    for index in order:
        length = lengths[index]
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = with_space[space].pop()
            if not with_space[space]:
                spaces &= ~(1 << space)
            rows[row].append(index)
        else:
            row, space = len(rows), context
            rows.append([index])
        left = space - length
        if left:
            with_space[left].append(row)
            spaces |= 1 << left
    return rows


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
