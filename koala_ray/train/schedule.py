"""The learning rate: linear warm-up, then a fall. A function of the step alone, so a resumed run has the same."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate(
    step: int,
    steps: int,
    peak: float,
    warmup: int,
    floor: float,
    schedule: Literal["cosine", "linear", "constant"] = "cosine",
) -> float:
    """The learning rate of a step (from 0) of ``steps``.

    Args:
        step: the step that is about to be taken.
        steps: steps in the whole run.
        peak: the highest learning rate, reached at the last warm-up step.
        warmup: steps of linear rise; cut to a tenth of a run that is shorter than its warm-up.
        floor: where the cosine or the line ends, as a part of the peak.
        schedule: how it falls from the peak.
    """
    warmup = warmup if warmup < steps else steps // 10
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    left = 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done
    return peak * (floor + (1 - floor) * left)
