"""Going on from the last checkpoint that is whole, whatever number of workers and ZeRO stage wrote it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from koala_ray import storage
from koala_ray.checkpoint.manifest import (
    RECORDS,
    Checkpoint,
    Notice,
    mark_damaged,
    parse_records,
    whole_checkpoints,
)
from koala_ray.checkpoint.shard import DamagedShard, ShardReader, fetch, needed
from koala_ray.checkpoint.slices import copy_in, held_slices
from koala_ray.errors import KoalaError


@dataclass(frozen=True)
class Restored:
    """Where a run goes on."""

    steps_taken: int = 0
    records: tuple[dict[str, Any], ...] = ()
    """The figures of the steps before."""
    guards: dict[str, Any] | None = None
    """What the guards remember."""


def restore(engine: Any, folder: str, run: dict[str, Any], notice: Notice) -> Restored:
    """Load the last checkpoint that is whole into a fresh engine; every worker must call it.

    A checkpoint with a damaged shard is passed over for the one before, on all workers alike.

    Args:
        engine: the DeepSpeed engine, just built.
        folder: the train step's.
        run: what the run is; see :class:`koala_ray.checkpoint.manifest.Manifest`.
        notice: told on the first worker what was passed over, and why.

    Raises:
        KoalaError: the last checkpoint is of another run, or the storage fails.
    """
    candidates = whole_checkpoints(folder, notice) if dist.get_rank() == 0 else iter(())
    while (checkpoint := _agreed(candidates)) is not None:
        refuse_another_run(checkpoint, run)
        with tempfile.TemporaryDirectory(prefix="koala-checkpoint-") as temporary:
            shards = needed(checkpoint.manifest.shards, held_slices(engine))
            files, fault = _fetched(checkpoint, shards, Path(temporary))
            faults: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(faults, fault)
            if fault := _worst(faults):
                if not isinstance(fault, DamagedShard):
                    raise fault
                if dist.get_rank() == 0:
                    notice(f"{checkpoint.uri} can't be used: {fault}")
                    mark_damaged(checkpoint)
                continue
            reader = ShardReader(shards, files)
            copy_in(engine, checkpoint.manifest.optimizer_steps, reader.read)
        records = parse_records(storage.read_bytes(checkpoint.file(RECORDS)))
        return Restored(checkpoint.manifest.steps_taken, tuple(records), checkpoint.manifest.guards)
    return Restored()


def _agreed(candidates: Iterator[Checkpoint]) -> Checkpoint | None:
    """The first worker's next candidate, on every worker."""
    chosen: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            chosen = [next(candidates, None)]
        except Exception as error:  # the others must not wait for what will never come
            chosen = [error]
    dist.broadcast_object_list(chosen)
    if isinstance(chosen[0], Exception):
        raise chosen[0]
    checkpoint: Checkpoint | None = chosen[0]
    return checkpoint


def _fetched(checkpoint: Checkpoint, shards: list[Any], folder: Path) -> tuple[dict[str, Path], Exception | None]:
    """Local files of some shards, or what went wrong; the other workers hear of it, so nothing is raised here."""
    try:
        return {shard.file: fetch(checkpoint.uri, shard, folder) for shard in shards}, None
    except Exception as error:
        return {}, error


def _worst(faults: list[Exception | None]) -> Exception | None:
    """The fault that all workers act on: a storage that fails says nothing about the checkpoint, so it comes first."""
    found = [fault for fault in faults if fault is not None]
    return next((fault for fault in found if not isinstance(fault, DamagedShard)), found[0] if found else None)


def refuse_another_run(checkpoint: Checkpoint, run: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint that another recipe, other rows or another base model made.

    Raises:
        KoalaError: with the settings that differ.
    """
    theirs, ours = flat(checkpoint.manifest.run), flat(run)
    differing = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
    if differing:
        named = "; ".join(f"{key} was {theirs.get(key)}, is {ours.get(key)}" for key in differing)
        raise KoalaError(
            f"the checkpoint is of another run: {named}",
            where=checkpoint.uri,
            mend="go on with the recipe that it was made with, or give --out another folder",
        )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
