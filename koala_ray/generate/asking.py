"""Asking a model's replicas for all that a store doesn't have: as much at a time as they take, again where one dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from koala_ray.errors import KoalaError, StorageFailure
from koala_ray.generate.app import engine_of, engine_version, in_flight
from koala_ray.generate.model import AskedModel
from koala_ray.generate.replica import Ask, Reply
from koala_ray.generate.sampling import own_seed, sampling_of
from koala_ray.generate.store import AnswerStore, key_of
from koala_ray.progress import Progress
from koala_ray.recipe import GenerateSettings
from koala_ray.records import Answer, Turn
from koala_ray.tokens.template import next_prompt_ids, prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer

FIRST_WAIT = 1.0
"""Seconds before a prompt is asked again that a replica dropped; doubles each time."""
KEEP_SECONDS = 0.5
"""How often it is looked whether answers are due to be written."""


@dataclass(frozen=True)
class Dialogue:
    """A prompt's turns, asked one after the other, for one of its answers."""

    turns: tuple[str, ...]
    index: int = 0


@dataclass(frozen=True)
class _Turn:
    """One turn of a dialogue, and what was answered."""

    place: int
    text: str
    ids: list[int]
    key: str
    answer: Answer | None


class Asker:
    """Asks one model."""

    def __init__(self, model: AskedModel, settings: GenerateSettings, store: AnswerStore) -> None:
        """Load the tokenizer.

        Raises:
            KoalaError: the model has none.
        """
        self._model, self._settings, self._store = model, settings, store
        self._tokenizer = Tokenizer.load(model.place)
        self._sampling = sampling_of(settings)
        self._failed: dict[str, Answer] = {}
        self._tokens, self._seconds = 0, 0.0

    @property
    def name(self) -> str:
        """The store's folder's: the same whenever the same is asked."""
        return self._store.folder.rpartition("/")[2]

    @property
    def tokens_per_second(self) -> float:
        """Of what was asked now; 0 if nothing was."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def answers(self, dialogue: Dialogue) -> list[Answer]:
        """The answers to all turns; to those after one that failed there are none but failures."""
        found = [turn.answer for turn in self._walk(dialogue) if turn.answer]
        rest = dialogue.turns[len(found) :]
        reason = "an earlier turn was not answered" if found else "it was not asked"
        return found + [
            self._failure(text, [], len(found) + place, dialogue.index, reason) for place, text in enumerate(rest)
        ]

    def missing(self, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
        """Those with a turn that isn't answered yet."""
        return [one for one in dialogues if any(turn.answer is None for turn in self._walk(one))]

    def _walk(self, dialogue: Dialogue) -> Iterator[_Turn]:
        """The turns up to the first that isn't answered."""
        ids: list[int] = []
        answer: Answer | None = None
        for place, text in enumerate(dialogue.turns):
            if answer is None:
                ids = prompt_ids([Turn("user", text)], self._tokenizer, self._settings.marker)
            else:
                ids = next_prompt_ids(ids, answer.answer_ids, text, self._tokenizer, self._settings.marker)
            key = key_of(ids, dialogue.index)
            answer = self._store.get(key) or self._failed.get(key)
            yield _Turn(place, text, ids, key, answer)
            if answer is None or answer.finish == "failed":
                return

    def ask(self, handle: Any, missing: Sequence[Dialogue]) -> None:
        """Ask for what is missing; what comes is kept at once, also if this is broken off.

        Args:
            handle: the replicas'.
            missing: what to ask.

        Raises:
            StorageFailure: what came couldn't be written, and its storage was away for too long.
        """
        try:
            asyncio.run(self._ask_all(handle, missing))
        except StorageFailure:
            raise  # it was waited for
        except BaseException:  # above all Ctrl-C
            self._store.flush()
            raise
        self._store.flush()

    async def _ask_all(self, handle: Any, missing: Sequence[Dialogue]) -> None:
        total = sum(len(dialogue.turns) for dialogue in missing)
        waiting = iter(missing)
        with Progress(f"generate  {self._model.title}", total, "answers") as bar:
            bar.start_at(0)
            started = time.monotonic()

            def told() -> None:
                self._seconds = time.monotonic() - started
                bar.update(bar.done + 1, f"{self._tokens:,} tokens  {self.tokens_per_second:,.0f} tokens/s")

            async def places() -> None:
                for dialogue in waiting:
                    for _ in dialogue.turns:
                        await self._ask_next(handle, dialogue)
                        told()

            count = min(len(missing), self._settings.replicas * in_flight(self._settings))
            try:
                async with asyncio.TaskGroup() as group:
                    asking = [group.create_task(places()) for _ in range(count)]
                    keeping = group.create_task(self._keep())
                    await asyncio.wait(asking)
                    keeping.cancel()
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None  # the one that ended the others

    async def _keep(self) -> None:
        """Write what has come, in a thread: while the storage is slow or away, the replicas go on answering."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            if self._store.due:
                await asyncio.to_thread(self._store.flush)

    async def _ask_next(self, handle: Any, dialogue: Dialogue) -> None:
        """Ask for the first turn that isn't answered, if there is one."""
        *_, turn = self._walk(dialogue)
        if turn.answer:
            return
        seed = own_seed(self._settings.seed, turn.ids, dialogue.index)
        reply = await self._reply(handle, Ask(replace(self._sampling, seed=seed), ids=turn.ids))
        if isinstance(reply, str):
            self._failed[turn.key] = self._failure(turn.text, turn.ids, turn.place, dialogue.index, reply)
            return
        tokens = len(reply.ids) + reply.ended
        self._tokens += tokens
        answer = Answer(
            id="",
            prompt=turn.text,
            answer=reply.text.strip(),
            answer_ids=reply.ids,
            prompt_tokens=len(turn.ids),
            tokens=tokens,
            finish="length" if reply.finish == "length" else "stop",
            model=self._model.name,
            turn=turn.place,
            index=dialogue.index,
            seed=seed,
            seconds=round(reply.seconds, 3),
            engine=engine_version(engine_of(self._settings)),
        )
        self._store.add(turn.key, answer)

    async def _reply(self, handle: Any, ask: Ask) -> Reply | str:
        """What a replica answers, or why none does."""
        wait = FIRST_WAIT
        for left in range(self._settings.retries, -1, -1):
            try:
                reply: Reply | KoalaError = await handle.reply.remote(ask)
            except Exception as error:  # a replica that dies fails in as many ways as there are moments
                if not left:
                    return f"asked {self._settings.retries + 1} times: {' '.join(str(error).split())[:500]}"
                await asyncio.sleep(wait)
                wait *= 2
                continue
            return f"{reply.error} (mend: {reply.mend})" if isinstance(reply, KoalaError) else reply
        raise AssertionError("unreachable")

    def _failure(self, text: str, ids: Sequence[int], turn: int, index: int, reason: str) -> Answer:
        return Answer(
            "", text, "", [], len(ids), 0, "failed", self._model.name, error=reason, turn=turn, index=index
        )  # fmt: skip
