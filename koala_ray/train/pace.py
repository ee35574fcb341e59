"""When a checkpoint is due by the clock: every so many minutes, or as often as costs least (Young, Daly)."""

from __future__ import annotations

from typing import Literal

from koala_ray.plan.reclaims import best_interval

LEAST_SECONDS = 10.0
"""However little a checkpoint holds training up, writing it takes the machines' network."""


class Pace:
    """Tells on the first worker whether a checkpoint is due."""

    def __init__(self, minutes: float | Literal["young"], rate: float, now: float) -> None:
        """Begin to count.

        Args:
            minutes: between checkpoints; 0 for none by the clock, "young" for the interval that costs least.
            rate: reclaims of any of the run's machines per hour, for "young".
            now: seconds since 1970.
        """
        self._minutes, self._rate, self._saved_at = minutes, rate, now

    def saved(self, now: float) -> None:
        """Count from here: a checkpoint was begun, for whatever reason."""
        self._saved_at = now

    def due(self, now: float, stall: float, commit: float) -> bool:
        """Whether it is time.

        Args:
            now: seconds since 1970.
            stall: seconds that the last checkpoint held training up.
            commit: seconds that it took until it was committed.
        """
        interval = self.seconds(stall, commit)
        return interval is not None and now - self._saved_at >= interval

    def seconds(self, stall: float, commit: float) -> float | None:
        """Seconds between checkpoints; None if the clock says nothing.

        For "young" a checkpoint costs what it holds training up. The first one comes after the shortest interval, since
        until then nothing is known of its cost.
        """
        if self._minutes == "young":
            if self._rate <= 0:
                return None
            best = best_interval(float("inf"), stall / 3600, self._rate) * 3600
            return max(LEAST_SECONDS, commit, best)
        return 60 * self._minutes or None
