"""The answers that a model has given under some sampling, kept as they come, in parts that are whole or not there.

A store belongs to a model and a sampling, and knows its answers by what was asked, not by the prompt set: a set's first
ten prompts, the whole set and another set with the same prompt in it share what they have in common.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict

from koala_ray import storage
from koala_ray.faults import outlast
from koala_ray.progress import say
from koala_ray.records import Answer
from koala_ray.steps import canonical

PARTS = "part-*.jsonl"
PART_ANSWERS = 256
"""So many answers make a part …"""
PART_SECONDS = 10.0
"""… or so many seconds; a killed job loses at most these."""


def key_of(ids: Sequence[int], index: int) -> str:
    """What names an answer in its store: the ids that it follows, and which of several it is."""
    return hashlib.sha256(canonical([list(ids), index])).hexdigest()[:32]


class AnswerStore:
    """A folder of parts, each a file of JSON lines that is written once and whole."""

    def __init__(self, folder: str) -> None:
        """Read what is there.

        Args:
            folder: a folder or URI; it needn't exist.
        """
        self.folder = folder
        self._answers: dict[str, Answer] = {}
        self._waiting: list[tuple[str, Answer]] = []
        self._written = time.monotonic()
        self._writing = threading.Lock()
        for file in storage.list_files(folder, [PARTS]):
            # Not by splitlines(): an answer may hold U+2028 and the like as they are.
            for line in storage.read_bytes(file.uri).decode().split("\n"):
                if line:
                    row = json.loads(line)
                    key = row.pop("key")
                    self._answers[key] = Answer(**row)

    def get(self, key: str) -> Answer | None:
        """The answer, if it has been given."""
        return self._answers.get(key)

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer; it is safe when the next part is written."""
        self._answers[key] = answer
        self._waiting.append((key, answer))

    @property
    def due(self) -> bool:
        """Whether it is time to write a part."""
        full, late = len(self._waiting) >= PART_ANSWERS, time.monotonic() - self._written >= PART_SECONDS
        return full or (late and bool(self._waiting))

    def flush(self) -> None:
        """Write what isn't safe yet, also beside :meth:`add` in another thread; an outage of the storage is waited out.

        Raises:
            StorageFailure: it lasted too long. The answers are still here, for the next try.
        """
        with self._writing:
            part = list(self._waiting)
            if not part:
                return
            lines = [json.dumps({"key": key, **asdict(answer)}, ensure_ascii=False) for key, answer in part]
            data = "".join(f"{line}\n" for line in lines).encode()
            uri = storage.join(self.folder, PARTS.replace("*", uuid.uuid4().hex))
            outlast(lambda: storage.write_atomic(uri, data), say)
            del self._waiting[: len(part)]
            self._written = time.monotonic()
