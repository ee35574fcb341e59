"""Exact duplicates: rows that ask word for word what an earlier row asks.

Koala deduplicated ShareGPT on the user's queries. Comparisons (HH, WebGPT, summarization) ask the same several times
on purpose, to compare other answers: they are duplicates only if their answers are the same as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from koala_ray.records import Turn

KEY_BYTES = 16


def row_key(dialogues: Sequence[Sequence[Turn]], with_answers: bool) -> bytes:
    """What two raw rows share that are duplicates: a hash of the user's queries, white space aside.

    Args:
        dialogues: all dialogues that the raw row gives; without answers only the first one's queries count.
        with_answers: take in every turn of every dialogue.
    """
    turns = [turn for turns in dialogues for turn in turns] if with_answers else dialogues[0]
    texts = [" ".join(turn.text.split()) for turn in turns if with_answers or turn.role == "user"]
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "replace"), digest_size=KEY_BYTES).digest()


class Duplicates:
    """Remembers each key with the raw row that had it first: 16 bytes and a pair's id a row."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def seen(self, key: bytes, pair: str) -> bool:
        """Whether an earlier raw row had this key. The dialogues of one raw row share a pair and its key."""
        return self._first.setdefault(key, pair) != pair
