"""How an answer's tokens are drawn: the settings, and the seed that makes each answer its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.recipe import GenerateSettings
from koala_ray.steps import canonical

SEEDS = 1 << 63
MAX_LOGPROBS = 20
"""Alternatives that are told for a token at most."""


@dataclass(frozen=True)
class Sampling:
    """How one answer is drawn."""

    max_tokens: int
    """New tokens at most, the end-of-sequence token among them."""
    temperature: float = 0.0
    """Divides the logits; 0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that make up this probability."""
    top_k: int = 0
    """Draw among so many of the likeliest tokens; 0 among all."""
    repetition_penalty: float = 1.0
    """Makes tokens that were there before less likely, as in CTRL (Keskar et al. 2019): a positive logit is divided
    by it, a negative one multiplied."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these strings."""
    seed: int = 0
    """Of this answer: the same one draws the same tokens wherever and beside whatever it is generated."""
    logprobs: int | None = None
    """For each token tell its log-probability, and so many alternatives'; None tells none."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            KoalaError: which, and what it may be.
        """
        wrong = next((name for name, fine in self._fine().items() if not fine), None)
        if wrong:
            raise KoalaError(f"{wrong} can't be {getattr(self, wrong)!r}", where=wrong, mend=RANGES[wrong])

    def _fine(self) -> dict[str, bool]:
        return {
            "max_tokens": self.max_tokens >= 1,
            "temperature": 0 <= self.temperature <= 100,  # not so for NaN
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "repetition_penalty": 0 < self.repetition_penalty <= 100,
            "stop": all(self.stop),
            "seed": -SEEDS <= self.seed < 2 * SEEDS,
            "logprobs": self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS,
        }


RANGES = {
    "max_tokens": "1 or more",
    "temperature": "0 to 100",
    "top_p": "more than 0, 1 at most",
    "top_k": "0 (all) or more",
    "repetition_penalty": "more than 0, 100 at most; 1 is none",
    "stop": "strings that are not empty",
    "seed": "a whole number of 64 bits",
    "logprobs": f"0 to {MAX_LOGPROBS}",
}


def sampling_of(settings: GenerateSettings) -> Sampling:
    """A recipe's sampling."""
    names = ("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "stop", "seed")
    return Sampling(**{name: getattr(settings, name) for name in names})


def own_seed(seed: int, ids: Sequence[int], index: int) -> int:
    """The seed of one answer, by what is asked and not by when or where.

    Args:
        seed: the recipe's.
        ids: the prompt's.
        index: the answer's place among the several to one prompt.
    """
    digest = hashlib.sha256(canonical([seed, list(ids), index])).digest()
    return int.from_bytes(digest[:8], "big") % SEEDS


def as_settings(sampling: Sampling) -> dict[str, Any]:
    """What of it decides about answers, as JSON values; the seed is that of all answers together."""
    found = asdict(sampling)
    del found["logprobs"]
    return {**found, "stop": list(sampling.stop)}
