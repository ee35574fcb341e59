"""The names under which every sink shows a run's figures, and the figures of a record under them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
"""A line of ``metrics.jsonl``."""
Status = Mapping[str, Any]
"""What the driver knows beside a record: tokens_per_second, mfu, dollars, dollars_to_go, hours_left."""

OF_STEP = {
    "train/loss": "loss",
    "train/learning_rate": "lr",
    "train/gradient_norm": "grad_norm",
    "train/data_wait_seconds": "data_wait",
    "train/checkpoint_stall_seconds": "checkpoint_stall",
}
OF_STATUS = {
    "train/tokens_per_second": "tokens_per_second",
    "train/mfu": "mfu",
    "train/dollars": "dollars",
    "train/dollars_to_go": "dollars_to_go",
    "train/hours_left": "hours_left",
}
HELDOUT = "heldout/loss"


def scalars(record: Record, status: Status) -> dict[str, float]:
    """The figures of a step's or an evaluation's record by name; what isn't known or isn't finite is left out.

    A group's held-out loss is named after it: ``heldout/hh/negative``.
    """
    found: dict[str, Any] = {}
    if record["kind"] == "step":
        found = {name: record.get(key) for name, key in OF_STEP.items()}
        found |= {name: status.get(key) for name, key in OF_STATUS.items()}
    elif record["kind"] == "evaluation":
        found = {HELDOUT: record["heldout_loss"]}
        found |= {f"heldout/{group}": figures["loss"] for group, figures in record["groups"].items()}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
