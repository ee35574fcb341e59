"""A checkpoint: DeepSpeed's shards of weights and optimizer, with the cursor and the figures in the same commit.

Each worker writes its shards into a folder of its own; Ray Train merges them into one checkpoint and commits it
in ``checkpoint_manager_snapshot.json``. The cursor is the number of steps taken: step s reads rows
[s·B, (s+1)·B), so it says the next row too. The run's figures so far travel with the weights: whatever is killed
when, the figures of a run are those of the steps that made its weights.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from koala_ray import storage

RAY_RUN = "checkpoints"
"""Ray Train's run name: its folder below the train step's folder."""
TAG = "state"
CURSOR = "steps_taken"
GUARDS = "guards"
METRICS = "metrics.jsonl"


def committed(folder: str) -> tuple[int, str]:
    """Steps taken at the last committed checkpoint of a train step's folder, and its URI; 0 without one."""
    runs = storage.join(folder, RAY_RUN)
    uri = storage.join(runs, "checkpoint_manager_snapshot.json")
    if not storage.exists(uri):
        return 0, ""
    latest = json.loads(storage.read_bytes(uri)).get("latest_checkpoint_result")
    if not latest:
        return 0, ""
    return int(latest["metrics"][CURSOR]), storage.join(runs, latest["checkpoint_dir_name"])


def committed_steps(folder: str) -> int:
    """Steps taken at the last committed checkpoint of a train step's folder; 0 without one."""
    return committed(folder)[0]


def committed_records(folder: str) -> list[dict[str, Any]]:
    """The figures of the steps that made the last committed checkpoint."""
    steps, checkpoint = committed(folder)
    return parse_records(storage.read_bytes(storage.join(checkpoint, METRICS))) if steps else []


def parse_records(data: bytes) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``."""
    return [json.loads(line) for line in data.decode().splitlines()]


def format_records(records: Sequence[dict[str, Any]]) -> bytes:
    """The bytes of a ``metrics.jsonl``."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def save(
    engine: Any,
    steps_taken: int,
    first_step: int,
    batch_rows: int,
    records: Sequence[dict[str, Any]],
    guards: dict[str, Any],
) -> None:
    """Write this worker's shards and report them to Ray Train; every worker must call it.

    The checkpoint's name holds the world size and where this attempt began, so that an attempt never writes
    over the shards of another one. What isn't trained (a base model under adapters) is not in it.

    Args:
        engine: the DeepSpeed engine.
        steps_taken: the cursor.
        first_step: where this attempt began.
        batch_rows: packed rows in a global batch.
        records: the run's figures so far; the first worker's are written.
        guards: what the guards remember.
    """
    import ray.train
    import torch.distributed as dist

    world = dist.get_world_size()
    with tempfile.TemporaryDirectory(prefix="koala-checkpoint-") as folder:
        cursor = {CURSOR: steps_taken, "next_row": steps_taken * batch_rows, "world_size": world}
        engine.save_checkpoint(
            folder, tag=TAG, client_state={**cursor, GUARDS: guards}, exclude_frozen_parameters=engine.module.adapted
        )
        if dist.get_rank() == 0:
            Path(folder, METRICS).write_bytes(format_records(records))
        ray.train.report(
            cursor,
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_dir_name=f"step-{steps_taken:06d}-from-{first_step:06d}-of-{world}",
        )


def restore(engine: Any) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Load the committed checkpoint that Ray Train gives.

    Returns:
        The steps taken, the run's figures up to them, and what the guards remember; 0 and nothing without one.

    Raises:
        RuntimeError: DeepSpeed found nothing to load in it.
    """
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, [], {}
    with checkpoint.as_directory() as folder:
        path, state = engine.load_checkpoint(folder, tag=TAG, load_module_strict=not engine.module.adapted)
        records = parse_records(Path(folder, METRICS).read_bytes())
    if path is None:
        raise RuntimeError(f"the checkpoint {checkpoint.path} can't be loaded")
    return int(state[CURSOR]), records, state[GUARDS]
