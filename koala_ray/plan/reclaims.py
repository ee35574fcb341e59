"""What reclaimed machines cost: hours of a run in the mean and how they spread, and how often to write a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MARGIN = 1.25
"""After a notice a checkpoint is begun only if so many times what it took so far is left."""


@dataclass(frozen=True)
class Reclaims:
    """What a run on machines that are taken away now and then is up against; in hours."""

    rate: float
    """Reclaims of any of the machines per hour, with a constant rate: gaps are exponential."""
    restart: float
    """From a reclaim until training goes on; another one in between begins it anew."""
    stall: float
    """What a checkpoint holds training up."""
    commit: float = 0.0
    """From the end of its stall until a checkpoint is safe. Training goes on meanwhile; the one before still counts."""
    announced: float = 0.0
    """The part of the reclaims whose notice leaves time for a checkpoint: nothing is undone by them."""


def expected_hours(work: float, interval: float, reclaims: Reclaims) -> float:
    """Hours that a run takes in the mean, with checkpoints and what reclaims undo.

    The run's work is cut into equal segments, and the last checkpoint is its end. A segment of x hours with its
    checkpoint's stall takes e^(rate · restart) · (e^(u · x) − 1) / u, where u is the rate of unannounced reclaims (Daly
    2006, equation 13, for u = rate). A checkpoint that is written in the background and safe c hours later
    multiplies that by e^(u · c): between two reclaims L hours apart, ⌊(L − restart − c) / x⌋ segments become safe, and
    the mean of that is e^(−rate · restart − u · c) / (e^(u · x) − 1). To first order a reclaim costs the restart,
    half an interval and c.

    Args:
        work: hours of training, undisturbed; without checkpoints.
        interval: hours of work between checkpoints, at most; as long as the work for one at the end.
        reclaims: what comes in between.
    """
    if work <= 0:
        return 0.0
    segments = max(1, math.ceil(work / interval - 1e-9))
    length = work / segments + reclaims.stall
    undone = reclaims.rate * (1 - reclaims.announced)
    try:
        one = math.expm1(undone * length) / undone if undone * length > 1e-9 else length
        return segments * one * math.exp(reclaims.rate * reclaims.restart + undone * reclaims.commit) + reclaims.commit
    except OverflowError:
        return math.inf


LONGEST = 1_000
"""A simulated run that takes so many times its work is given up."""


def simulated_hours(work: float, interval: float, reclaims: Reclaims, runs: int = 2_000, seed: int = 0) -> np.ndarray:
    """Hours of single runs in which reclaims fall at random: how :func:`expected_hours` spreads.

    Each is played from reclaim to reclaim. After an announced one the run goes on from where it was; after another one
    from the last checkpoint that was safe.

    Args:
        work: hours of training, undisturbed; without checkpoints.
        interval: hours of work between checkpoints.
        reclaims: what comes in between.
        runs: how many are played.
        seed: of the reclaims.

    Returns:
        float64 [runs]; infinite for a run that was given up.
    """
    random = np.random.default_rng(seed)
    hours = np.zeros(runs)
    for run in range(runs):
        left, now = work, 0.0
        while True:
            segments = math.ceil(left / interval - 1e-9)
            needed = left + segments * reclaims.stall + reclaims.commit
            gap = random.exponential(1 / reclaims.rate) if reclaims.rate else math.inf
            if gap >= needed:
                hours[run] = now + needed
                break
            now += gap + _waits(random, reclaims)
            if now > LONGEST * work:
                hours[run] = math.inf
                break
            cycle = interval + reclaims.stall
            if random.random() < reclaims.announced:
                whole, part = divmod(gap, cycle)
                left = max(0.0, left - whole * interval - min(part, interval))
            elif gap > reclaims.commit:
                left = max(0.0, left - (gap - reclaims.commit) // cycle * interval)
    return hours


def _waits(random: np.random.Generator, reclaims: Reclaims) -> float:
    """Hours until training goes on after a reclaim: the restart, begun anew by each reclaim in between."""
    waited = 0.0
    while (again := random.exponential(1 / reclaims.rate)) < reclaims.restart:
        waited += again
    return waited + reclaims.restart


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
