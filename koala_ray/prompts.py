"""Stored prompt sets: by name, or any JSON-lines or Parquet file, folder or URI; of one turn or of several."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.steps import canonical

DATA_VARIABLE = "KOALA_DATA"
"""Names the folder or URI with the prompt sets that may not travel with the package."""


@dataclass(frozen=True)
class StoredSet:
    """A prompt set that is known by name and lies below ``$KOALA_DATA``; ``koala-ray fetch`` puts it there."""

    file: str
    licence: str
    drawn: int = 0
    """A seeded sample of so many of the file's prompts; 0 is all of them."""


STORED = {
    "koala": StoredSet("prompts/koala_test_set.jsonl", "Apache-2.0"),
    "self-instruct": StoredSet("prompts/self_instruct_252.jsonl", "Apache-2.0"),
    "vicuna": StoredSet("prompts/vicuna_80.jsonl", "Apache-2.0"),
    "mt-bench": StoredSet("prompts/mt_bench_80.jsonl", "Apache-2.0"),
    # Koala was compared on Alpaca's 180 of self-instruct's 252; which they were was never published.
    "alpaca-180": StoredSet("prompts/self_instruct_252.jsonl", "Apache-2.0", drawn=180),
}
SAMPLE = "sample"
SAMPLE_LICENCE = "Apache-2.0"
TEXT_FIELDS = ("prompt", "text", "instruction")
TURNS_FIELD = "turns"
ID_FIELDS = ("id", "question_id", "prompt_id")
FORMATS = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class Prompt:
    """One prompt of a set."""

    id: str
    text: str
    more: tuple[str, ...] = ()
    """What the user says after each answer but the last, where the prompt has several turns."""

    @property
    def turns(self) -> tuple[str, ...]:
        """All that the user says."""
        return (self.text, *self.more)

    def as_row(self) -> dict[str, Any]:
        """The prompt as a row that :func:`load_prompts` reads."""
        said = {TURNS_FIELD: [*self.turns]} if self.more else {TEXT_FIELDS[0]: self.text}
        return {ID_FIELDS[0]: self.id, **said}


@dataclass(frozen=True)
class PromptSet:
    """A named set of prompts, in order."""

    name: str
    prompts: tuple[Prompt, ...]
    licence: str = ""
    """Of a stored set; empty where nobody told."""

    def hash(self) -> str:
        """sha256 over the ids and texts in order."""
        return hashlib.sha256(canonical([[prompt.id, *prompt.turns] for prompt in self.prompts])).hexdigest()


def load_prompts(name: str, limit: int = 0, data: str | None = None) -> PromptSet:
    """A prompt set by its name (sample, koala, self-instruct, vicuna, mt-bench, alpaca-180), or of a file or folder.

    A row has ``prompt``, ``text`` or ``instruction`` (with ``instances[0].input``, as self-instruct has), or
    ``turns``, a list of what the user says in turn (as MT-bench has), and ``id`` or ``question_id``; without one, its
    line is its id. A folder stands for all its JSON-lines and Parquet files in the order of their names.

    Args:
        name: the set's name, a path or a URI.
        limit: take the first so many; 0 takes all.
        data: the folder or URI below which the stored sets lie; ``$KOALA_DATA`` by default.

    Raises:
        KoalaError: there is no such set, a row has no prompt, or two rows have one id.
    """
    uri = _place(name, data)
    prompts = [_prompt(row, where, number) for row, where, number in _rows(uri, name)]
    ids = [prompt.id for prompt in prompts]
    if len(set(ids)) != len(ids):
        double = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise KoalaError(f"two prompts have the id {double}", where=uri, mend="give each prompt its own id")
    if not prompts:
        raise KoalaError("the prompt set is empty", where=uri, mend='write lines such as {"id": "1", "prompt": "Hi!"}')
    stored = STORED.get(name)
    if stored and stored.drawn:
        prompts = _drawn(prompts, stored.drawn)
    # An s3:// folder's and a file's name alike; a stored set keeps its own.
    title = name if stored else Path(name.rstrip("/")).stem
    # By what was asked for, not by the title: somebody's own koala.jsonl is under nobody's licence.
    licence = stored.licence if stored else SAMPLE_LICENCE if name == SAMPLE else ""
    return PromptSet(title, tuple(prompts[:limit] if limit else prompts), licence)


def _drawn(prompts: list[Prompt], count: int) -> list[Prompt]:
    """So many prompts, those with the least hashes of their ids, in their old order."""
    chosen = sorted(prompts, key=lambda prompt: hashlib.sha256(prompt.id.encode()).digest())[:count]
    return [prompt for prompt in prompts if prompt in chosen]


def _rows(uri: str, name: str) -> Iterator[tuple[Any, str, str]]:
    """Each row, where it is, and its number."""
    if not storage.exists(uri):
        raise _absent(uri)
    if not storage.is_folder(uri):
        yield from _rows_of_file(uri, name, "")
        return
    files = [file for file in storage.list_files(uri) if file.relative.endswith(FORMATS)]
    if not files:
        raise _absent(uri)
    for file in files:
        yield from _rows_of_file(file.uri, f"{name}/{file.relative}", f"{file.relative}:" if len(files) > 1 else "")


def _absent(uri: str) -> KoalaError:
    return KoalaError(
        "the prompt set is not there",
        where=uri,
        mend=f"give a JSON-lines or Parquet file, or {SAMPLE}, {', '.join(STORED)} (`koala-ray fetch` gets those; "
        f"{DATA_VARIABLE} or --data says where they are)",
    )


def _rows_of_file(uri: str, name: str, prefix: str) -> Iterator[tuple[Any, str, str]]:
    if uri.endswith(".parquet"):
        from koala_ray.tables import read_table

        for number, row in enumerate(read_table(uri).to_pylist(), start=1):
            yield row, f"{name}:{number}", f"{prefix}{number}"
        return
    # Not by splitlines(): a JSON text may hold U+2028 and the like as they are.
    for number, line in enumerate(storage.read_bytes(uri).decode("utf-8-sig", "replace").split("\n"), start=1):
        if line.strip():
            where = f"{name}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise KoalaError("a line is not valid JSON", where=where, mend=str(error)) from error
            yield row, where, f"{prefix}{number}"


def stored_sets(data: str | None = None) -> list[PromptSet]:
    """The stored prompt sets that are there, below ``data`` or ``$KOALA_DATA``."""
    whole = [name for name, stored in STORED.items() if not stored.drawn]
    return [load_prompts(name, data=data) for name in whole if any(map(storage.exists, _stored_places(name, data)))]


def _place(name: str, data: str | None) -> str:
    if name == SAMPLE:
        from koala_ray.samples import SAMPLE_PROMPTS, sample_root

        return storage.join(sample_root(), SAMPLE_PROMPTS)
    if name in STORED:
        places = _stored_places(name, data)
        for place in places:
            if storage.exists(place):
                return place
        file = STORED[name].file
        root = places[0].removesuffix(f"/{file}") if places else "DIR"
        raise KoalaError(
            f"the prompt set {name!r} does not travel with the package",
            where=", ".join(places) or f"--prompts {name}",
            mend=f"get it with `koala-ray fetch {name} --to {root}`; name the folder that holds {file} with --data or "
            f"{DATA_VARIABLE}; or give a file",
        )
    return storage.absolute(name)


def _stored_places(name: str, data: str | None) -> list[str]:
    roots = [root for root in (data, os.environ.get(DATA_VARIABLE)) if root]
    return [storage.join(storage.absolute(root), STORED[name].file) for root in roots]


def _prompt(row: Any, where: str, number: str) -> Prompt:
    row = row if isinstance(row, dict) else {}
    id_ = next((str(row[name]) for name in ID_FIELDS if row.get(name) is not None), number)
    turns = row.get(TURNS_FIELD)
    if isinstance(turns, list) and turns:
        if not all(isinstance(turn, str) and turn.strip() for turn in turns):
            raise KoalaError("a turn is empty or no text", where=where, mend="give each turn what the user says")
        first, *more = (turn.strip() for turn in turns)
        return Prompt(id_, first, tuple(more))
    text = next((row[name] for name in TEXT_FIELDS if isinstance(row.get(name), str)), "")
    if not text.strip():
        fields = ", ".join((*TEXT_FIELDS, TURNS_FIELD))
        raise KoalaError("a row has no prompt", where=where, mend=f"give it one of {fields}")
    instances = row.get("instances")
    if isinstance(instances, list) and instances and isinstance(instances[0], dict) and instances[0].get("input"):
        text = f"{text} {instances[0]['input']}"
    return Prompt(id_, text.strip())
