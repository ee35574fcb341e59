"""Checkpoints in the background: copied in memory while training waits, written and committed while it goes on.

Each worker writes one shard straight into the run's storage. When all have said that theirs is stored, the first one
writes the manifest, which is the commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist

from koala_ray import storage
from koala_ray.checkpoint.manifest import (
    CHECKPOINTS,
    MANIFEST,
    RECORDS,
    Manifest,
    StoredShard,
    checkpoint_name,
    format_records,
    tidy,
)
from koala_ray.checkpoint.meeting import Meeting
from koala_ray.checkpoint.shard import write_file, write_shard
from koala_ray.checkpoint.slices import KINDS, Slice, copy_out, optimizer_steps, written_slices
from koala_ray.recipe import TrainSettings

UPLOAD_SECONDS = 3600.0
"""How long a worker waits for the others' shards: they are of one size, and their storage may be slow."""


@dataclass(frozen=True)
class _Snapshot:
    steps_taken: int
    values: torch.Tensor
    slices: list[Slice]
    optimizer_steps: int
    records: list[dict[str, Any]]
    guards: dict[str, Any]
    began: float


class Saver:
    """Writes a run's checkpoints, one at a time; every worker has one and calls it alike."""

    def __init__(
        self,
        engine: Any,
        folder: str,
        settings: TrainSettings,
        run: dict[str, Any],
        patience: float = UPLOAD_SECONDS,
        commit_seconds: float = 0.0,
        told: Callable[[dict[str, Any]], None] = lambda message: None,
    ) -> None:
        """Every worker must call it.

        Args:
            engine: the DeepSpeed engine.
            folder: the train step's.
            settings: the recipe's train part.
            run: what the run is; see :class:`koala_ray.checkpoint.manifest.Manifest`.
            patience: seconds that a worker waits for the others' shards.
            commit_seconds: what a checkpoint took in an earlier attempt.
            told: called on the first worker when a checkpoint is committed, or couldn't be.
        """
        self._engine, self._folder, self._settings, self._run = engine, folder, settings, run
        self._told = told
        self._meeting = Meeting.open(patience)
        self._rank, self._workers = dist.get_rank(), dist.get_world_size()
        self._thread: Thread | None = None
        self._buffer = torch.empty(0)
        self._outcome: dict[str, Any] = {}
        self.seconds = commit_seconds
        """What the longest checkpoint took, from the first copy to the commit."""
        self.stall = 0.0
        """What the last one held training up, in seconds."""
        self.saves = 0
        if self._rank == 0:
            tidy(folder, settings.keep_checkpoints, settings.keep_every)

    def save(self, steps_taken: int, records: Sequence[dict[str, Any]], guards: dict[str, Any]) -> None:
        """Copy the state and begin to write it; waits for the checkpoint before, if that is still being written.

        Args:
            steps_taken: the cursor.
            records: the run's figures so far; the first worker's are written.
            guards: what the guards remember.
        """
        called = time.monotonic()
        self._settle()
        began = time.monotonic()
        slices = written_slices(self._engine)
        count = sum(one.numel for one in slices)
        if self._buffer.shape != (len(KINDS), count):
            self._buffer = torch.empty(len(KINDS), count, pin_memory=torch.cuda.is_available())
        copy_out(self._engine, slices, self._buffer)
        steps = optimizer_steps(self._engine)
        snapshot = _Snapshot(steps_taken, self._buffer, slices, steps, list(records), guards, began)
        self._thread = Thread(target=self._write, args=(snapshot,), name=f"checkpoint-{steps_taken}", daemon=True)
        self._thread.start()
        self.saves += 1
        self.stall = time.monotonic() - called

    def finish(self) -> None:
        """Wait until the last checkpoint is committed; every worker must call it, and all hear the same.

        Raises:
            RuntimeError: it couldn't be.
        """
        self._settle()
        dist.barrier()  # where they meet is the first worker's: it must not go before all have heard
        if "failure" in self._outcome:
            raise RuntimeError(f"the checkpoint of step {self._outcome['step']} failed: {self._outcome['failure']}")

    def _settle(self) -> None:
        if self._thread:
            self._thread.join()
            self._thread = None

    def _write(self, snapshot: _Snapshot) -> None:
        step, meeting = snapshot.steps_taken, self._meeting
        uri = storage.join(self._folder, CHECKPOINTS, checkpoint_name(step, meeting.attempt))
        try:
            shard = write_shard(uri, f"shard-{self._rank:05d}.safetensors", snapshot.values, snapshot.slices)
            meeting.put(f"{step}/{self._rank}", asdict(shard))
        except Exception as error:  # training goes on without this checkpoint, and says so
            meeting.put(f"{step}/{self._rank}", {"failure": f"worker {self._rank}: {error}"})
        if self._rank == 0:
            meeting.put(f"{step}/committed", self._commit(uri, snapshot))
        try:
            (self._outcome,) = meeting.take([f"{step}/committed"])
        except Exception as error:
            self._outcome = {"failure": str(error)}
        self._outcome["step"] = step
        self.seconds = max(self.seconds, time.monotonic() - snapshot.began)

    def _commit(self, uri: str, snapshot: _Snapshot) -> dict[str, Any]:
        step = snapshot.steps_taken
        outcome: dict[str, Any]
        try:
            stored = self._meeting.take([f"{step}/{rank}" for rank in range(self._workers)])
            failures = [one["failure"] for one in stored if "failure" in one]
            if failures:
                raise RuntimeError("; ".join(failures))
            manifest = Manifest(
                steps_taken=step,
                next_row=step * self._settings.batch_rows,
                optimizer_steps=snapshot.optimizer_steps,
                workers=self._workers,
                zero_stage=self._settings.zero_stage,
                run=self._run,
                guards=snapshot.guards,
                weights=self._weights(),
                shards=[StoredShard(**one) for one in stored],
                records=write_file(uri, RECORDS, format_records(snapshot.records)),
            )
            if wrong := manifest.uncovered():
                raise RuntimeError(f"the shards don't hold the weights: {wrong}")
            storage.write_atomic(storage.join(uri, MANIFEST), manifest.to_bytes())
            outcome = {
                "seconds": time.monotonic() - snapshot.began,
                "bytes": sum(shard.size for shard in manifest.shards),
            }
        except Exception as error:
            outcome = {"failure": str(error)}
        self._told({"kind": "checkpoint", "step": step, **outcome})
        if "failure" not in outcome:
            self._tidy()
        return outcome

    def _tidy(self) -> None:
        settings = self._settings
        try:
            tidy(self._folder, settings.keep_checkpoints, settings.keep_every, self._meeting.attempt)
        except Exception as error:  # what isn't removed now is removed next time
            self._told({"kind": "notice", "text": f"old checkpoints can't be removed: {error}"})

    def _weights(self) -> dict[str, int]:
        return {
            name: getattr(weight, "ds_numel", weight.numel())
            for name, weight in self._engine.module.named_parameters()
            if weight.requires_grad
        }
