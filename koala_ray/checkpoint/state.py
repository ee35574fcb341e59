"""A checkpoint: DeepSpeed's shards of weights and optimizer, with the cursor in the same commit.

Each worker writes its shards into a folder of its own; Ray Train merges them into one checkpoint and commits it
in ``checkpoint_manager_snapshot.json``. The cursor is the number of steps taken: step s reads rows
[s·B, (s+1)·B), so it says the next row too.
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

from koala_ray import storage

RAY_RUN = "checkpoints"
"""Ray Train's run name: its folder below the train step's folder."""
TAG = "state"
CURSOR = "steps_taken"


def committed_steps(folder: str) -> int:
    """Steps taken at the last committed checkpoint of a train step's folder; 0 without one."""
    uri = storage.join(folder, RAY_RUN, "checkpoint_manager_snapshot.json")
    if not storage.exists(uri):
        return 0
    latest = json.loads(storage.read_bytes(uri)).get("latest_checkpoint_result")
    return int(latest["metrics"][CURSOR]) if latest else 0


def save(engine: Any, steps_taken: int, first_step: int, batch_rows: int) -> None:
    """Write this worker's shards and report them to Ray Train; every worker must call it.

    The checkpoint's name holds the world size and where this attempt began, so that an attempt never writes
    over the shards of another one.
    """
    import ray.train
    import torch.distributed as dist

    world = dist.get_world_size()
    with tempfile.TemporaryDirectory(prefix="koala-checkpoint-") as folder:
        cursor = {CURSOR: steps_taken, "next_row": steps_taken * batch_rows, "world_size": world}
        engine.save_checkpoint(folder, tag=TAG, client_state=cursor)
        ray.train.report(
            cursor,
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_dir_name=f"step-{steps_taken:06d}-from-{first_step:06d}-of-{world}",
        )


def restore(engine: Any) -> int:
    """Load the committed checkpoint that Ray Train gives, and return the steps taken; 0 without one.

    Raises:
        RuntimeError: DeepSpeed found nothing to load in it.
    """
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        path, state = engine.load_checkpoint(folder, tag=TAG)
    if path is None:
        raise RuntimeError(f"the checkpoint {checkpoint.path} can't be loaded")
    return int(state[CURSOR])
