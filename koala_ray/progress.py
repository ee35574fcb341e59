"""Progress for people: a bar on a terminal, a line every few seconds in a job's log. All of it on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

SECONDS_BETWEEN_LINES = 5.0


def say(text: str) -> None:
    """One line for the person who watches."""
    print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class Progress:
    """How far a piece of work is, with a note beside it and the time left.

    The time left is counted from the work done since this bar began, so a resumed run isn't flattered.
    """

    def __init__(self, title: str, total: int | None, unit: str = "rows") -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.note = 0, ""
        self._first: tuple[float, int] | None = None
        self._last_line = float("-inf")
        self._printed = ""
        self._started = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as RichProgress

            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TextColumn("{task.fields[line]}"),
            )
            self._bar = RichProgress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(f"{title:<9}", total=total, line="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._show(last=True)
        if self._bar is not None:
            self._bar.stop()

    def start_at(self, done: int) -> None:
        """Say what was done before this bar began (a resumed run)."""
        self.done = done
        self._first = (time.monotonic(), done)

    def update(self, done: int, note: str = "") -> None:
        """Set how much is done, in units, and what stands beside it."""
        if self._first is None:
            self._first = (self._started, 0)
        self.done, self.note = done, note or self.note
        self._show()

    def remark(self, text: str) -> None:
        """Say something that stays on the screen above the bar."""
        if self._bar is not None:
            self._bar.console.print(f"{self.title:<9} {text}", markup=False, highlight=False)
        else:
            say(f"{self.title:<9} {text}")

    def seconds_left(self) -> float | None:
        """The estimate of the time left in seconds; None while nothing is known."""
        if not self.total or self._first is None or self.done <= self._first[1]:
            return None
        began, base = self._first
        return (time.monotonic() - began) / (self.done - base) * (self.total - self.done)

    def line(self) -> str:
        """The figures in words, e.g. ``12/40 steps  30 %  loss 2.31  1:10 left``."""
        if self.total:
            parts = [f"{self.done:,}/{self.total:,} {self.unit}", f"{100 * self.done // self.total} %"]
        else:
            parts = [f"{self.done:,} {self.unit}"]
        if self.note:
            parts.append(self.note)
        left = self.seconds_left()
        if self.total and self.done >= self.total:
            parts.append(f"{clock(time.monotonic() - self._started)} taken")
        elif left is not None:
            parts.append(f"{clock(left)} left")
        return "  ".join(parts)

    def _show(self, last: bool = False) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, total=self.total, line=self.line())
            return
        now = time.monotonic()
        text = f"{self.title:<9} {self.line()}"
        if (last and text != self._printed) or now - self._last_line >= SECONDS_BETWEEN_LINES:
            say(text)
            self._printed, self._last_line = text, now
