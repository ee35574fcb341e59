"""The held-out split: by a hash of the pair id, so that both sides of a pair fall on one side."""

from __future__ import annotations

import hashlib

from koala_ray.records import Split


def split_of(pair: str, heldout: float, seed: int) -> Split:
    """Where a pair belongs: depends on its id, the held-out part and the seed only."""
    digest = hashlib.sha256(f"{seed}/{pair}".encode()).digest()
    return "heldout" if int.from_bytes(digest[:8]) < heldout * 2**64 else "train"
