"""Stored prompt sets: by name, or any JSON-lines file or URI."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.steps import canonical

DATA_VARIABLE = "KOALA_DATA"
"""Names the folder or URI with the prompt sets that may not travel with the package."""
STORED = {
    "koala": "prompts/koala_test_set.jsonl",
    "self-instruct": "prompts/self_instruct_252.jsonl",
    "vicuna": "prompts/vicuna_80.jsonl",
}
SAMPLE = "sample"
TEXT_FIELDS = ("prompt", "text", "instruction")
ID_FIELDS = ("id", "question_id")


@dataclass(frozen=True)
class Prompt:
    """One prompt of a set."""

    id: str
    text: str


@dataclass(frozen=True)
class PromptSet:
    """A named set of prompts, in order."""

    name: str
    prompts: tuple[Prompt, ...]

    def hash(self) -> str:
        """sha256 over the ids and texts in order."""
        return hashlib.sha256(canonical([[prompt.id, prompt.text] for prompt in self.prompts])).hexdigest()


def load_prompts(name: str, limit: int = 0, data: str | None = None) -> PromptSet:
    """A prompt set by its name (sample, koala, self-instruct, vicuna), or of a JSON-lines file.

    A row has ``prompt``, ``text`` or ``instruction`` (with ``instances[0].input``, as self-instruct has), and
    ``id`` or ``question_id``; without one, its line is its id.

    Args:
        name: the set's name, a path or a URI.
        limit: take the first so many; 0 takes all.
        data: the folder or URI below which the stored sets lie; ``$KOALA_DATA`` by default.

    Raises:
        KoalaError: there is no such set, a row has no prompt, or two rows have one id.
    """
    uri = _place(name, data)
    if not storage.exists(uri) or storage.is_folder(uri):
        raise KoalaError(
            "the prompt set is not there",
            where=uri,
            mend=f"give a JSON-lines file, or {SAMPLE}, {', '.join(STORED)} (with {DATA_VARIABLE} set)",
        )
    prompts = []
    # Not by splitlines(): a JSON text may hold U+2028 and the like as they are.
    for number, line in enumerate(storage.read_bytes(uri).decode("utf-8-sig", "replace").split("\n"), start=1):
        if line.strip():
            prompts.append(_prompt(line, f"{name}:{number}", str(number)))
    ids = [prompt.id for prompt in prompts]
    if len(set(ids)) != len(ids):
        double = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise KoalaError(f"two prompts have the id {double}", where=uri, mend="give each prompt its own id")
    if not prompts:
        raise KoalaError("the prompt set is empty", where=uri, mend='write lines such as {"id": "1", "prompt": "Hi!"}')
    return PromptSet(Path(name).stem, tuple(prompts[:limit] if limit else prompts))


def stored_sets(data: str | None = None) -> list[PromptSet]:
    """The stored prompt sets that are there, below ``data`` or ``$KOALA_DATA``."""
    return [load_prompts(name, data=data) for name in STORED if any(map(storage.exists, _stored_places(name, data)))]


def _place(name: str, data: str | None) -> str:
    if name == SAMPLE:
        from koala_ray.samples import SAMPLE_PROMPTS, sample_root

        return storage.join(sample_root(), SAMPLE_PROMPTS)
    if name in STORED:
        places = _stored_places(name, data)
        for place in places:
            if storage.exists(place):
                return place
        raise KoalaError(
            f"the prompt set {name!r} does not travel with the package",
            where=", ".join(places) or f"--prompts {name}",
            mend=f"name the folder that holds {STORED[name]} with --data or {DATA_VARIABLE}, or give a JSON-lines file",
        )
    return storage.absolute(name)


def _stored_places(name: str, data: str | None) -> list[str]:
    roots = [root for root in (data, os.environ.get(DATA_VARIABLE)) if root]
    return [storage.join(storage.absolute(root), STORED[name]) for root in roots]


def _prompt(line: str, where: str, number: str) -> Prompt:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise KoalaError("a line is not valid JSON", where=where, mend=str(error)) from error
    text = next((row[name] for name in TEXT_FIELDS if isinstance(row, dict) and isinstance(row.get(name), str)), "")
    if not text.strip():
        raise KoalaError("a row has no prompt", where=where, mend=f"give it one of {', '.join(TEXT_FIELDS)}")
    instances = row.get("instances")
    if isinstance(instances, list) and instances and isinstance(instances[0], dict) and instances[0].get("input"):
        text = f"{text} {instances[0]['input']}"
    id_ = next((str(row[name]) for name in ID_FIELDS if row.get(name) is not None), number)
    return Prompt(id_, text.strip())
