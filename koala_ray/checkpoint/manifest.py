"""The record that commits a checkpoint, and which checkpoints of a run are whole.

A checkpoint is a folder of shards, one from each worker. Its manifest is written last, whole or not at all: without
it the folder is no checkpoint. It lists each shard with its size, sha256 and slices, and says where the run stood.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from koala_ray import storage
from koala_ray.steps import canonical

CHECKPOINTS = "checkpoints"
"""The folder of a run's checkpoints, below the train step's."""
RAY_FILES = "ray"
"""The folder of Ray Train's own files beside them; nothing is read from it."""
MANIFEST = "manifest.json"
DAMAGED = "manifest.damaged.json"
"""What a manifest is called once one of its shards was found damaged: such a checkpoint is no longer one."""
RECORDS = "metrics.jsonl"
FORMAT = 1
NAME = re.compile(r"step-(\d{6,})-\w+")

Notice = Callable[[str], None]


@dataclass(frozen=True)
class StoredShard:
    """A shard as it is stored."""

    file: str
    size: int
    """Bytes."""
    sha256: str
    slices: list[tuple[str, int, int]]
    """Weight, first element and number of elements of each slice, in the shard's order; empty for other files."""


@dataclass(frozen=True)
class Manifest:
    """Where a run stood, and which files say so."""

    steps_taken: int
    """The cursor: step s reads rows [s·B, (s+1)·B), so it says the next row too."""
    next_row: int
    optimizer_steps: int
    """Steps that AdamW has taken: without those that a guard skipped."""
    workers: int
    zero_stage: int
    run: dict[str, Any]
    """What the run is: the train step's settings (seed and schedule among them), the hashes of rows and base model."""
    guards: dict[str, Any]
    """What the guards remember."""
    weights: dict[str, int]
    """The number of elements of each trained weight."""
    shards: list[StoredShard]
    records: StoredShard
    """The figures of the steps that made the weights."""

    def to_bytes(self) -> bytes:
        """JSON that carries its own sha256."""
        body = {"format": FORMAT, **asdict(self)}
        return canonical({**body, "sha256": _digest(body)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ValueError: it is cut short or changed, or of another format.
        """
        body = json.loads(data)
        if not isinstance(body, dict) or _digest(_without(body, "sha256")) != body["sha256"]:
            raise ValueError("its sha256 is another one")
        if body["format"] != FORMAT:
            raise ValueError(f"it is of format {body['format']}, not {FORMAT}")
        values = _without(body, "sha256", "format")
        shards = [_shard(shard) for shard in values.pop("shards")]
        return cls(shards=shards, records=_shard(values.pop("records")), **values)

    def uncovered(self) -> str:
        """What is wrong with the slices: over all shards each element of each weight must stand once. Empty if none."""
        found: dict[str, list[tuple[int, int]]] = {name: [] for name in self.weights}
        for shard in self.shards:
            for name, start, numel in shard.slices:
                found.setdefault(name, []).append((start, numel))
        for name, slices in found.items():
            place = 0
            for start, numel in sorted(slices):
                if start != place:
                    return f"{name} has element {min(start, place)} {'twice' if start < place else 'nowhere'}"
                place += numel
            if place != self.weights.get(name):
                return f"{name} has {place} elements, not {self.weights.get(name)}"
        return ""


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint."""

    uri: str
    manifest: Manifest

    def file(self, name: str) -> str:
        """The path or URI of one of its files."""
        return storage.join(self.uri, name)


def whole_checkpoints(folder: str, notice: Notice = lambda text: None) -> Iterator[Checkpoint]:
    """A run's committed checkpoints whose files are all there, the last first.

    Args:
        folder: the train step's.
        notice: told of each checkpoint that is passed over, and why.
    """
    root = storage.join(folder, CHECKPOINTS)
    sizes = {file.relative: file.size for file in storage.list_files(root)}
    names = {path.removesuffix(f"/{MANIFEST}") for path in sizes if path.endswith(f"/{MANIFEST}")}
    for name in sorted((name for name in names if NAME.fullmatch(name)), key=_order, reverse=True):
        uri = storage.join(root, name)
        try:
            manifest = Manifest.from_bytes(storage.read_bytes(storage.join(uri, MANIFEST)))
        except FileNotFoundError:  # removed since it was listed
            continue
        except (ValueError, KeyError, TypeError) as error:
            notice(f"{name} can't be used: its manifest is damaged ({error})")
            continue
        wrong = [
            f"{shard.file} {'is missing' if size is None else f'has {size:,} bytes, not {shard.size:,}'}"
            for shard in [*manifest.shards, manifest.records]
            if (size := sizes.get(f"{name}/{shard.file}")) != shard.size
        ]
        if wrong:
            notice(f"{name} can't be used: {wrong[0]}")
            continue
        yield Checkpoint(uri, manifest)


def last_checkpoint(folder: str) -> Checkpoint | None:
    """The last checkpoint that is whole; None without one."""
    return next(whole_checkpoints(folder), None)


def committed_steps(folder: str) -> int:
    """Steps taken at the last checkpoint of a train step's folder that is whole; 0 without one."""
    checkpoint = last_checkpoint(folder)
    return checkpoint.manifest.steps_taken if checkpoint else 0


def committed_records(folder: str) -> list[dict[str, Any]]:
    """The figures of the steps that made the last checkpoint."""
    checkpoint = last_checkpoint(folder)
    return parse_records(storage.read_bytes(checkpoint.file(RECORDS))) if checkpoint else []


def parse_records(data: bytes) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``."""
    return [json.loads(line) for line in data.decode().splitlines()]


def format_records(records: Sequence[dict[str, Any]]) -> bytes:
    """The bytes of a ``metrics.jsonl``."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def checkpoint_name(steps_taken: int, attempt: str) -> str:
    """A checkpoint's folder; each attempt's are its own, so that no shard of another one is ever mixed in."""
    return f"step-{steps_taken:06d}-{attempt}"


def mark_damaged(checkpoint: Checkpoint) -> None:
    """Let nobody read a checkpoint again; its files stay until the next one is committed."""
    data = storage.read_bytes(checkpoint.file(MANIFEST))
    storage.write_atomic(checkpoint.file(DAMAGED), data)
    storage.remove_tree(checkpoint.file(MANIFEST))


def tidy(folder: str, keep: int, keep_every: int, attempt: str | None = None) -> None:
    """Remove checkpoints that are no longer needed, and what was never committed.

    Args:
        folder: the train step's.
        keep: the last whole checkpoints to keep.
        keep_every: keep those of each so many steps besides; 0 keeps none.
        attempt: whose uncommitted folders stay, since it may be writing them; None if nobody writes.
    """
    root = storage.join(folder, CHECKPOINTS)
    whole = list(whole_checkpoints(folder))
    kept = {one.uri for place, one in enumerate(whole) if place < keep or _each(one.manifest.steps_taken, keep_every)}
    files = storage.list_files(root)
    committed = {file.relative.partition("/")[0] for file in files if file.relative.endswith(f"/{MANIFEST}")}
    for name in storage.list_folders(root):
        uri = storage.join(root, name)
        writing = name not in committed and attempt is not None and name.endswith(f"-{attempt}")
        if uri not in kept and not writing:
            # The manifest first: what is left of a removal that was cut short is no checkpoint.
            storage.remove_tree(storage.join(uri, MANIFEST))
            storage.remove_tree(uri)


def _each(steps: int, every: int) -> bool:
    return bool(every) and steps % every == 0


def _order(name: str) -> tuple[int, str]:
    return int(name.split("-")[1]), name


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _shard(values: dict[str, Any]) -> StoredShard:
    return StoredShard(**{**values, "slices": [(name, start, numel) for name, start, numel in values["slices"]]})
