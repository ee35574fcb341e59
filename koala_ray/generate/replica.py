"""A Ray Serve replica: one engine with one model, asked by the batch job and by the OpenAI-compatible server.

What it is asked and what it answers are plain dictionaries; a request that can't be answered is answered with why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from koala_ray.errors import KoalaError
from koala_ray.generate.answering import Finish, Piece, answer
from koala_ray.generate.engine import EngineSettings, Token, open_engine
from koala_ray.generate.sampling import Sampling
from koala_ray.quiet import quiet_transformers
from koala_ray.records import Marker, Turn
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Ask:
    """What a replica is asked: ids, or a text, or a dialogue in which an answer comes next."""

    sampling: Sampling
    ids: list[int] | None = None
    text: str | None = None
    turns: list[Turn] | None = None
    marker: Marker = "positive"
    """The marker under which a dialogue's answer stands."""
    fill: bool = False
    """The answer may be as long as there is room; ``sampling.max_tokens`` doesn't count."""


@dataclass
class Reply:
    """A whole answer."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish = ""
    ended: bool = False
    """Whether the model drew the end-of-sequence token."""
    prompt_tokens: int = 0
    seconds: float = 0.0
    tokens: list[Token] = field(default_factory=list)
    """With log-probabilities, where they were asked for."""
    names: dict[int, str] = field(default_factory=dict)
    """The text of each id in ``tokens``, alternatives too."""


@dataclass(frozen=True)
class Part:
    """A piece of an answer on its way."""

    piece: Piece
    names: dict[int, str]
    """As in :class:`Reply`."""


@dataclass(frozen=True)
class Scored:
    """A prompt and how likely its tokens are."""

    text: str
    tokens: list[Token]
    names: dict[int, str]


class Replica:
    """The deployment's class; Ray Serve makes one for each replica."""

    def __init__(self, model: str, engine: str, settings: dict[str, Any]) -> None:
        """Load the model.

        Args:
            model: what :func:`koala_ray.models.resolve.resolve` takes.
            engine: ``transformers`` or ``vllm``.
            settings: of :class:`koala_ray.generate.engine.EngineSettings`, without the model.
        """
        quiet_transformers()
        self._tokenizer = Tokenizer.load(model)
        self._engine = open_engine(engine, EngineSettings(model=model, **settings))  # type: ignore[arg-type]
        self._running, self._given_up = 0, 0

    async def about(self) -> dict[str, Any]:
        """The engine's limits, how many answers run and how many were given up, and the process's memory."""
        engine = self._engine
        return {
            "context": engine.context,
            "vocabulary": engine.vocabulary,
            "engine": engine.name,
            "running": self._running,
            "given_up": self._given_up - self._running,
            "memory_bytes": psutil.Process().memory_info().rss,
        }

    async def reply(self, ask: Ask) -> Reply | KoalaError:
        """The whole answer, or why there is none."""
        whole, started = Reply(), time.monotonic()
        try:
            ids, sampling = await self._checked(ask)
            async with aclosing(self._answer(ids, sampling, at_once=True)) as pieces:
                async for piece in pieces:
                    whole.text += piece.text
                    whole.ids += [token.id for token in piece.tokens]
                    if sampling.logprobs is not None:
                        whole.tokens += piece.tokens
                    whole.finish, whole.ended = piece.finish, piece.ended
        except KoalaError as error:
            return error
        whole.names = self._names(whole.tokens)
        whole.prompt_tokens, whole.seconds = len(ids), time.monotonic() - started
        return whole

    async def stream(self, ask: Ask) -> AsyncGenerator[int | Part | KoalaError]:
        """The number of the prompt's tokens, then the parts of the answer; or a single error."""
        try:
            ids, sampling = await self._checked(ask)
        except KoalaError as error:
            yield error
            return
        yield len(ids)
        async with aclosing(self._answer(ids, sampling)) as pieces:
            async for piece in pieces:
                yield Part(piece, self._names(piece.tokens) if sampling.logprobs is not None else {})

    async def _answer(self, ids: list[int], sampling: Sampling, at_once: bool = False) -> AsyncGenerator[Piece]:
        self._running += 1
        self._given_up += 1
        try:
            async with aclosing(answer(self._engine, self._tokenizer, ids, sampling, at_once)) as pieces:
                async for piece in pieces:
                    if piece.finish:
                        self._given_up -= 1
                    yield piece
        finally:
            self._running -= 1

    async def score(self, ask: Ask) -> Scored | KoalaError:
        """The prompt's own tokens with their log-probabilities."""
        try:
            ids, sampling = await self._checked(replace(ask, fill=True))
        except KoalaError as error:
            return error
        tokens = await self._engine.score(ids, sampling.logprobs or 0)
        return Scored(self._tokenizer.decode(ids) if ask.text is None else ask.text, tokens, self._names(tokens))

    def _names(self, tokens: Iterable[Token]) -> dict[int, str]:
        ids = {id_ for token in tokens for id_ in (token.id, *(other for other, _ in token.alternatives))}
        return {id_: self._tokenizer.decode([id_]) for id_ in ids}

    async def _checked(self, ask: Ask) -> tuple[list[int], Sampling]:
        """The prompt's ids, and the sampling with as many tokens as there is room for.

        Raises:
            KoalaError: the prompt is empty, too long or no prompt, or the sampling means nothing.
        """
        sampling = ask.sampling
        sampling.check()
        ids = ask.ids if ask.ids is not None else await asyncio.to_thread(self._ids, ask)
        if not ids:
            raise KoalaError("the prompt is empty", where="prompt", mend="say something")
        if wrong := next((id_ for id_ in ids if not 0 <= id_ < self._engine.vocabulary), None):
            raise KoalaError(
                f"the prompt has the id {wrong}, which is not in the vocabulary",
                where="prompt",
                mend=f"ids are smaller than {self._engine.vocabulary}",
            )
        room = self._engine.context - len(ids)
        if ask.fill and room > 0:
            sampling = replace(sampling, max_tokens=room)
        if room < sampling.max_tokens:
            raise KoalaError(
                f"the prompt's {len(ids):,} tokens and an answer of {sampling.max_tokens:,} don't fit into the "
                f"model's {self._engine.context:,}",
                where="prompt",
                mend="a shorter prompt" + (f", or max_tokens of {room:,} at most" if room > 0 else ""),
            )
        return ids, sampling

    def _ids(self, ask: Ask) -> list[int]:
        if ask.turns is not None:
            try:
                return prompt_ids(ask.turns, self._tokenizer, ask.marker)
            except ValueError as error:
                raise KoalaError(str(error), where="messages", mend="alternate user and assistant") from error
        (ids,) = self._tokenizer.encode([ask.text or ""])
        opening = [] if self._tokenizer.bos_id is None or not ids else [self._tokenizer.bos_id]
        return opening + ids

    def check_health(self) -> None:
        """Raise if the engine doesn't work any more: Ray Serve then starts another replica."""
        self._engine.check()

    def __del__(self) -> None:
        if engine := getattr(self, "_engine", None):
            engine.close()
