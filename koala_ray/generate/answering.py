"""From an engine's tokens to an answer: its text as it grows, where it ends, and why.

Every engine's answers go through here, so stop strings and half characters are treated alike.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from koala_ray.generate.engine import Engine, Token
from koala_ray.generate.sampling import Sampling
from koala_ray.tokens.tokenizer import Tokenizer

Finish = Literal["", "stop", "length"]
HALF = "\ufffd"
"""What a character decodes to of which only some bytes are there."""


@dataclass(frozen=True)
class Piece:
    """What an answer grows by."""

    text: str
    tokens: tuple[Token, ...]
    """The end-of-sequence token isn't among them."""
    finish: Finish = ""
    """In the last piece: ``stop`` at the end-of-sequence token or a stop string, ``length`` at ``max_tokens``."""
    ended: bool = False
    """In the last piece: whether the model drew the end-of-sequence token."""


async def answer(
    engine: Engine, tokenizer: Tokenizer, ids: Sequence[int], sampling: Sampling, at_once: bool = False
) -> AsyncGenerator[Piece]:
    """An answer, piece by piece; closing the iterator ends the generation.

    Text that may yet turn out to be the beginning of a stop string is held back; of a stop string that comes, the
    tokens stay and the text doesn't.

    Args:
        engine: generates.
        tokenizer: the model's.
        ids: the prompt's; with ``sampling.max_tokens`` they fit into the engine's context.
        sampling: how it is drawn.
        at_once: the pieces may come all at the end.
    """
    # A stop string ends the generation where it comes: each token has to be seen.
    at_once = at_once and not sampling.stop
    text, count = Text(tokenizer, sampling.stop), 0
    async with aclosing(engine.generate(ids, sampling, tokenizer.eos_id, at_once)) as tokens:
        async for token in tokens:
            count += 1
            if token.id == tokenizer.eos_id:
                yield Piece(text.rest(), (), "stop", ended=True)
                return
            grown, stopped = text.add(token.id)
            if stopped:
                yield Piece(grown, (token,), "stop")
                return
            if count == sampling.max_tokens:
                yield Piece(grown + text.rest(), (token,), "length")
                return
            yield Piece(grown, (token,))


class Text:
    """The text of a growing list of ids, given out as far as it is sure."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._ids: list[int] = []
        self._from, self._read = 0, 0
        self._held = ""

    def add(self, token: int) -> tuple[str, bool]:
        """The text that is sure now, and whether a stop string ended it."""
        self._ids.append(token)
        self._held += self._decoded(final=False)
        places = [place for string in self._stop if (place := self._held.find(string)) >= 0]
        if places:
            sure, self._held = self._held[: min(places)], ""
            return sure, True
        keep = max((_overlap(self._held, string) for string in self._stop), default=0)
        sure, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return sure, False

    def rest(self) -> str:
        """What was held back; nothing comes after."""
        rest, self._held = self._held + self._decoded(final=True), ""
        return rest

    def _decoded(self, final: bool) -> str:
        # Decoded beside the ids before: some tokenizers drop a space at a text's beginning.
        before = self._tokenizer.decode(self._ids[self._from : self._read])
        now = self._tokenizer.decode(self._ids[self._from :])
        if now.endswith(HALF) and not final:
            return ""
        self._from, self._read = self._read, len(self._ids)
        return now[len(before) :]


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of a text that begins a string."""
    return next((size for size in range(min(len(text), len(string) - 1), 0, -1) if string.startswith(text[-size:])), 0)
