"""What reclaimed machines cost: expected hours of a run, and how often to write a checkpoint."""

from __future__ import annotations

import math


def expected_hours(work: float, interval: float, checkpoint: float, restart: float, rate: float) -> float:
    """Hours that a run takes in the mean, with checkpoints and what reclaims undo.

    Reclaims come with a constant rate (exponential gaps) at any time, also while a checkpoint is written or the run
    starts again; one undoes all since the last checkpoint. For a segment of x hours with its checkpoint that is
    e^(rate · restart) · (e^(rate · x) − 1) / rate (Daly 2006, equation 13), which to first order is x, and for each
    reclaim half an interval and the restart. The run's work is cut into equal segments, the last checkpoint is its end.

    Args:
        work: hours of training, undisturbed; without checkpoints.
        interval: hours of work between checkpoints, at most; as long as the work for one at the end.
        checkpoint: hours that writing one holds training up.
        restart: hours from a reclaim until training goes on.
        rate: reclaims per hour of the whole cluster.
    """
    if work <= 0:
        return 0.0
    segments = max(1, math.ceil(work / interval - 1e-9))
    length = work / segments + checkpoint
    if rate * (length + restart) < 1e-9:
        return segments * length
    try:
        return segments * math.exp(rate * restart) * math.expm1(rate * length) / rate
    except OverflowError:
        return math.inf


def expected_reclaims(hours: float, rate: float) -> float:
    """Reclaims in so many hours, in the mean."""
    return hours * rate


def best_interval(work: float, checkpoint: float, rate: float) -> float:
    """Hours of work between checkpoints that cost least: Young's √(2 · checkpoint / rate) with Daly's higher terms.

    Young 1974; Daly 2006, equation 37. Without reclaims, or where a checkpoint takes longer than training lasts
    between them, Daly's limits hold: at most the whole work, at least the mean gap between reclaims.

    Args:
        work: hours of training.
        checkpoint: hours that writing a checkpoint holds training up.
        rate: reclaims per hour.
    """
    if rate <= 0:
        return work
    gap = 1 / rate
    if checkpoint >= 2 * gap:
        return min(work, gap)
    part = checkpoint / (2 * gap)
    interval = math.sqrt(2 * checkpoint * gap) * (1 + math.sqrt(part) / 3 + part / 9) - checkpoint
    return min(work, interval)
