"""The learning rate: linear warm-up, then a cosine. A function of the step alone, so a resumed run has the same."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, peak: float, warmup: int, floor: float) -> float:
    """The learning rate of a step (from 0) of ``steps``.

    Args:
        step: the step that is about to be taken.
        steps: steps in the whole run.
        peak: the highest learning rate, reached at the last warm-up step.
        warmup: steps of linear rise; cut to a tenth of a run that is shorter than its warm-up.
        floor: where the cosine ends, as a part of the peak.
    """
    warmup = warmup if warmup < steps else steps // 10
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
