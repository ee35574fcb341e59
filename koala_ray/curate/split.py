"""The held-out split: by a hash of the opening question, so that all that answers one question is on one side.

The sides of a comparison, HC3's answers and the dialogues that begin alike therefore never straddle the border, and
moving or reformatting raw files changes nothing.
"""

from __future__ import annotations

import hashlib

from koala_ray.records import Split


def split_of(opening: str, heldout: float, seed: int) -> Split:
    """Where the dialogues with this opening question belong: depends on it, the held-out part and the seed only."""
    digest = hashlib.sha256(f"{seed}/{' '.join(opening.split())}".encode("utf-8", "replace")).digest()
    return "heldout" if int.from_bytes(digest[:8]) < heldout * 2**64 else "train"
