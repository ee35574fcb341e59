"""A small finished token step for the plan's tests, made without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from koala_ray import storage
from koala_ray.steps import StepResult, run_step
from koala_ray.tokens.pack import pack
from koala_ray.tokens.shards import Dialogues, write_shards


def token_step(out: Path, lengths: list[int], context: int, epochs: int) -> StepResult:
    """Dialogues of these lengths, half of each learnt, packed for so many epochs."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    learnt = np.array([length // 2 for length in lengths], dtype=np.int32)
    learn = np.concatenate([np.arange(length) >= length - length // 2 for length in lengths])
    names = pa.array([f"hc3/file#{place}" for place in range(len(lengths))])
    groups = pa.array(["hc3/none"] * len(lengths)).dictionary_encode()
    dialogues = Dialogues(np.ones(starts[-1], dtype=np.int32), learn, starts, learnt, names, groups)

    def build(folder: str) -> dict[str, Any]:
        packs = pack(lengths, context)
        rows = write_shards(storage.join(folder, "train"), dialogues, packs, epochs, seed=0)
        return {"rows": rows, "packs": len(packs), "tokens": sum(lengths)}

    return run_step("tokens", str(out), settings={"context": context, "epochs": epochs}, inputs={}, build=build)
