"""Drops dialogues that are nearly the same as an earlier one, by MinHash signatures (optional, off by default).

The similarity of two dialogues is the Jaccard index of their sets of shingles, which signatures estimate (Broder, On
the Resemblance and Containment of Documents, 1997); bands of a signature find candidates (Leskovec, Rajaraman, Ullman,
Mining of Massive Datasets, chapter 3).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from zlib import crc32

import numpy as np
import rensa

from koala_ray.records import Turn

WORDS_IN_SHINGLE = 3
"""Dialogues are short (half of the sources' have fewer than 100 words): one changed word of 40 leaves a similarity of
0.85 with three words and 0.76 with the usual five, which is for web pages."""
FEW_WORDS = 8
"""Texts with fewer words are compared by characters: one word more would make most of their word shingles others."""
CHARACTERS_IN_SHINGLE = 5
HASHES = 128
"""The estimate's standard error is at most (0.5 · 0.5 / 128) ** 0.5 = 0.044."""
SEED = 1
RECALL = 0.9
"""At least this part of the pairs at the threshold itself is found, and more of those above it."""

_WORD = re.compile(r"\w+")
_VALUE = np.dtype("<u2")
"""The low half of a hash: two that differ have the same low half once in 65,536 times, far below the error."""


def signature(turns: Iterable[Turn]) -> bytes:
    """The MinHash signature (256 bytes) of what user and assistant said; case and punctuation don't matter.

    It depends on the text alone, not on the process or the machine.
    """
    sketch = rensa.RMinHash(num_perm=HASHES, seed=SEED)
    sketch.update(_shingles("\n".join(turn.text for turn in turns)))
    return np.array(sketch.digest(), dtype=np.uint32).astype(_VALUE).tobytes()


def _shingles(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    if len(words) >= FEW_WORDS:
        return [
            " ".join(shingle) for shingle in zip(*(words[start:] for start in range(WORDS_IN_SHINGLE)), strict=False)
        ]
    line = " ".join(words) or text  # a text without any word ("?!") is itself
    return [
        line[start : start + CHARACTERS_IN_SHINGLE] for start in range(max(1, len(line) - CHARACTERS_IN_SHINGLE + 1))
    ]


class NearDuplicates:
    """Remembers signatures, in the order in which they come, and finds those that are nearly an earlier one's.

    A remembered row takes 2 kB at a threshold of 0.8 (1.5 GB for 775,000 rows), most of it the keys of its bands.
    """

    def __init__(self, threshold: float) -> None:
        """``threshold``: the estimated Jaccard index, above 0 and at most 1, from which on two rows are the same."""
        if not 0 < threshold <= 1:
            raise ValueError(f"a threshold is above 0 and at most 1: {threshold}")
        self._threshold = threshold
        rows = rows_in_band(threshold)
        self._band_bytes = rows * _VALUE.itemsize
        self._newest: list[dict[int, int]] = [{} for _ in range(HASHES // rows)]
        """For each band the newest row with a band's checksum. Checksums that clash only give candidates more."""
        self._older = array("i")
        """For each row and band the row before it with the same checksum, or -1."""
        self._signatures = bytearray()
        self._owners: list[str] = []

    def seen(self, signature: bytes, owner: str) -> bool:
        """Whether an earlier row of another owner is nearly the same; if not, this row is remembered.

        An owner is a pair id: the dialogues of one pair are never duplicates of each other.
        """
        keys = [
            crc32(signature[band * self._band_bytes : (band + 1) * self._band_bytes])
            for band in range(len(self._newest))
        ]
        candidates = self._candidates(keys, owner)
        if candidates:
            known = np.frombuffer(self._signatures, _VALUE).reshape(-1, HASHES)[sorted(candidates)]
            alike = (known == np.frombuffer(signature, _VALUE)).mean(axis=1)
            if alike.max() >= self._threshold:
                return True
        self._remember(keys, signature, owner)
        return False

    def _candidates(self, keys: list[int], owner: str) -> set[int]:
        found: set[int] = set()
        bands = len(keys)
        for band, key in enumerate(keys):
            row = self._newest[band].get(key, -1)
            while row >= 0:
                if self._owners[row] != owner:
                    found.add(row)
                row = self._older[row * bands + band]
        return found

    def _remember(self, keys: list[int], signature: bytes, owner: str) -> None:
        row = len(self._owners)
        for newest, key in zip(self._newest, keys, strict=True):
            self._older.append(newest.get(key, -1))
            newest[key] = row
        self._signatures += signature
        self._owners.append(owner)


def rows_in_band(threshold: float) -> int:
    """The longest band with which a pair at the threshold is found with a probability of :data:`RECALL`.

    b bands of r values find a pair of similarity s with probability 1 - (1 - s^r)^b.
    """
    lengths = (r for r in range(HASHES, 1, -1) if 1 - (1 - threshold**r) ** (HASHES // r) >= RECALL)
    return next(lengths, 1)
