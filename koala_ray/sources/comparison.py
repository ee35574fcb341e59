"""What the readers of comparisons share: the two sides, their markers, and when neither can be learnt."""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray.records import Marker
from koala_ray.sources.base import Found

SIDES: dict[str, Marker] = {"chosen": "positive", "rejected": "negative"}
"""The sides of a comparison, the better one first, and the marker of each one's learnt turn."""
NO_DIFFERENCE = "the sides do not differ"


def reject_both(reason: str) -> Iterator[Found]:
    """Both sides of a comparison that can't be used at all."""
    return (Found(side, None, reason) for side in SIDES)


def told_apart(chosen: Found, rejected: Found) -> Iterator[Found]:
    """The two sides of a comparison, rejected if they say the same in answer to the same."""
    if chosen.dialogue and rejected.dialogue:
        texts = [[turn.text for turn in dialogue] for dialogue in (chosen.dialogue, rejected.dialogue)]
        if texts[0] == texts[1]:
            yield from reject_both(NO_DIFFERENCE)
            return
    yield from (chosen, rejected)
