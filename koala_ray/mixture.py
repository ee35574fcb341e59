"""The mixture: which sources belong to it, how often each dialogue is read, and under which marker.

Koala-Distill is what people got out of ChatGPT; Koala-All adds the open data sets. A comparison gives two dialogues,
one under the positive and one under the negative marker; Koala marked and learnt every answer of both. Here only the
answer where the two sides part is marked and learnt by default: in Anthropic's set three in five of the better side's
answers stand word for word in the worse one as well, so that marking all trains the same text under both markers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from koala_ray.errors import KoalaError
from koala_ray.recipe import DataSettings, SourceName
from koala_ray.records import Turn
from koala_ray.sources.registry import SOURCES

DISTILLED: tuple[SourceName, ...] = ("sharegpt", "hc3")
OPEN: tuple[SourceName, ...] = ("oig", "alpaca", "hh", "webgpt", "summarize")


@dataclass(frozen=True)
class Mixture:
    """A named choice of sources."""

    sources: tuple[SourceName, ...]
    negatives: bool = True
    """Whether the worse side of a comparison is learnt, under the negative marker."""


MIXTURES = {
    "koala-distill": Mixture(DISTILLED),
    "koala-all": Mixture(DISTILLED + OPEN),
    "koala-all-positive": Mixture(DISTILLED + OPEN, negatives=False),
    "open-source-only": Mixture(OPEN),
}


def choose_sources(data: DataSettings) -> DataSettings:
    """The settings with the globs of just the sources that the mixture has.

    Raises:
        KoalaError: files are named for a source that the mixture doesn't have.
    """
    if data.mixture == "found":
        return data
    wanted = MIXTURES[data.mixture].sources
    foreign = [name for name in data.sources if name not in wanted and not SOURCES[name].optional]
    if foreign:
        raise KoalaError(
            f"the mixture {data.mixture} has no {', '.join(foreign)}",
            where="data.sources",
            mend=f"leave out data.sources.{foreign[0]}, or take another data.mixture",
        )
    named = {name: data.sources.get(name) or list(SOURCES[name].usual_names) for name in wanted}
    optional = {name: globs for name, globs in data.sources.items() if SOURCES[name].optional}
    return data.model_copy(update={"sources": named | optional})


def condition(turns: Sequence[Turn], data: DataSettings) -> tuple[Turn, ...]:
    """A dialogue's turns with the markers and masks that the recipe asks for; empty if the mixture leaves it out."""
    learnt = [place for place, turn in enumerate(turns) if turn.learn]
    marker = turns[learnt[-1]].marker if learnt else "none"
    if marker == "negative" and data.mixture != "found" and not MIXTURES[data.mixture].negatives:
        return ()
    if data.conditioning == "every":
        return tuple(replace(turn, marker=marker, learn=True) if turn.role == "assistant" else turn for turn in turns)
    return tuple(turns[: learnt[-1] + 1]) if learnt else tuple(turns)


def copies(source: str, pair: str, data: DataSettings) -> int:
    """How often an epoch reads the dialogues of a pair: the whole part of ``repeats``, and once more by a hash.

    Both sides of a pair are drawn or not together, and the same pairs in every epoch.
    """
    repeats = {str(name): value for name, value in data.repeats.items()}.get(source, 1.0)
    whole = int(repeats)
    digest = hashlib.sha256(f"{data.seed}/repeats/{pair}".encode()).digest()
    return whole + (int.from_bytes(digest[:8]) < (repeats - whole) * 2**64)
