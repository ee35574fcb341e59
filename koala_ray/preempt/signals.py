"""What the first worker hears of the cluster while it trains, and what it wishes for: to save, to leave, to go on.

A thread asks Ray's control store every two seconds which machines will be taken away and how many workers the others
hold. The wish travels to all workers in the all-reduce that each step needs anyway, so that they act on it after the
same step.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from koala_ray.plan.reclaims import MARGIN

EVERY_SECONDS = 2.0


class Wish(IntEnum):
    """What the workers do after a step."""

    NOTHING = 0
    SAVE = 1
    """Write a checkpoint and go on: a machine will be taken away, and there is no other one yet."""
    STOP = 2
    """Write a checkpoint and end: the money is spent."""
    LEAVE = 3
    """Write a checkpoint and start again on other machines."""
    FLEE = 4
    """Start again on other machines without one: there is no time for it."""


@dataclass(frozen=True)
class Situation:
    """What the cluster looks like to a group of workers."""

    deadline: float | None
    """When the first of its machines is taken away, in seconds since 1970; None if none is."""
    workers: int
    """How many workers, of those numbers that are allowed, the machines hold that stay."""


class Decider:
    """Turns what is heard into wishes. Pure: it is told the time."""

    def __init__(self, workers: int, fewest: int, settle_seconds: float) -> None:
        self._workers, self._fewest, self._settle_seconds = workers, fewest, settle_seconds
        self._more_since: float | None = None
        self._saved_for: float | None = None
        self._saved_last = False

    def wish(self, situation: Situation, now: float, step_seconds: float, commit_seconds: float) -> Wish:
        """What to do after the step that begins now.

        With a machine about to go and others to go on with, the workers leave at once. Without others they save at
        once, train on, and save once more as late as it is safe.

        Args:
            situation: what was last heard.
            now: seconds since 1970.
            step_seconds: what a step takes.
            commit_seconds: what a checkpoint takes until it is committed; 0 if none was written yet.
        """
        if situation.deadline is None:
            return self._grow(situation, now)
        left = situation.deadline - now - step_seconds
        fits = left > MARGIN * commit_seconds
        if situation.workers >= self._fewest:
            return Wish.LEAVE if fits else Wish.FLEE
        if self._saved_for != situation.deadline:
            self._saved_for, self._saved_last = situation.deadline, False
            return Wish.SAVE if fits else Wish.NOTHING
        if fits and not self._saved_last and left < 2 * MARGIN * commit_seconds + step_seconds:
            self._saved_last = True
            return Wish.SAVE
        return Wish.NOTHING

    def _grow(self, situation: Situation, now: float) -> Wish:
        if situation.workers <= self._workers:
            self._more_since = None
            return Wish.NOTHING
        if self._more_since is None:
            self._more_since = now
        return Wish.LEAVE if now - self._more_since >= self._settle_seconds else Wish.NOTHING


class Signals:
    """Asks about the situation in the background; the last answer is at hand at once."""

    def __init__(self, look: Callable[[], Situation], first: Situation, every: float = EVERY_SECONDS) -> None:
        self.situation = first
        self._look, self._every, self._done = look, every, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            try:
                self.situation = self._look()
            except Exception:  # the control store is away: the last answer stands until it is back
                continue


def explain(wish: Wish, situation: Situation) -> str:
    """A wish in words."""
    left = "" if situation.deadline in (None, math.inf) else f" in {max(0.0, situation.deadline - time.time()):.0f} s"
    going = f"a machine will be taken away{left}"
    return {
        Wish.NOTHING: "",
        Wish.STOP: "",
        Wish.SAVE: f"{going}: writing a checkpoint",
        Wish.LEAVE: (
            f"the cluster holds {situation.workers} workers now: going on with them"
            if situation.deadline is None
            else f"{going}: writing a checkpoint and going on elsewhere"
        ),
        Wish.FLEE: f"{going}, too soon for a checkpoint: going on elsewhere from the last one",
    }[wish]
