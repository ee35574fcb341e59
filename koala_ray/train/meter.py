"""The meter: what a run has cost so far, over all its attempts, what it will cost yet, and when its budget is spent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.recipe import CostSettings
from koala_ray.train.ledger import Attempt, Ended, dollars, read_attempts, utc, write_attempts

BEAT_SECONDS = 15.0
"""Between two heartbeats in the ledger; a killed attempt's bill is short by at most this."""
RECENT_STEPS = 50
"""Steps that speed and time left are taken from."""


def mfu(tokens: float, seconds: float, flops_per_token: float, peak_flops: float | None) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al. 2022, appendix B): the part of the machines' peak that is used.

    Args:
        tokens: tokens trained on.
        seconds: how long that took.
        flops_per_token: forward and backward, without what is computed twice.
        peak_flops: FLOP/s of all workers together; None if unknown, which gives None.
    """
    if not peak_flops or not seconds:
        return None
    return tokens * flops_per_token / (seconds * peak_flops)


class Meter:
    """One attempt's meter, in the driver; it writes the run's ledger (:mod:`koala_ray.train.ledger`)."""

    def __init__(
        self,
        ledger: str,
        cost: CostSettings,
        attempts: list[Attempt],
        checkpoint_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._ledger, self._cost, self._attempts, self._now = ledger, cost, attempts, now
        self._attempt = attempts[-1]
        self._checkpoint_seconds = checkpoint_seconds
        self._furthest = max((attempt.last_step or 0 for attempt in attempts), default=0)
        self._started_from: float | None = now()
        self._heard = self._written = now()
        self._start: Mapping[str, Any] = {}
        self._step = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT_STEPS)
        self._steps, self._beside = 0, 0.0
        self._write()

    @classmethod
    def open(
        cls,
        ledger: str,
        cost: CostSettings,
        nodes: int,
        gpus: int,
        checkpoint_seconds: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> Meter:
        """Begin an attempt at a run: its machines are paid for from here on.

        Args:
            ledger: the path or URI of the run's ledger.
            cost: price and budget.
            nodes: nodes that the run holds.
            gpus: GPUs that it holds, on all nodes.
            checkpoint_seconds: what writing a checkpoint is expected to take, until one has been seen.
            now: seconds since 1970.

        Raises:
            KoalaError: there is a budget and no price, or nothing is left of the budget.
        """
        if cost.budget and cost.price is None:
            raise KoalaError(
                f"a budget of ${cost.budget:.2f} needs a price to be held",
                where="cost.budget",
                mend="--set cost.price=DOLLARS for an hour of one GPU (of one node without GPUs)",
            )
        attempts = read_attempts(ledger)
        spent = dollars(attempts, cost.price)
        if cost.budget and spent is not None and spent >= cost.budget:
            raise KoalaError(
                f"the run has cost ${spent:.2f} of its budget of ${cost.budget:.2f}",
                where=ledger,
                mend=f"--set cost.budget={2 * spent:.2f}, or another sum that leaves something to spend",
            )
        at = utc(now())
        attempts.append(Attempt(started=at, heartbeat=at, nodes=nodes, gpus=gpus, price=cost.price))
        return cls(ledger, cost, attempts, checkpoint_seconds, now)

    def record(self, record: Mapping[str, Any]) -> None:
        """Take in a record of ``metrics.jsonl`` as it comes.

        A step's ``seconds`` hold its ``data_wait``; its ``checkpoint_stall`` comes on top of them. What is told of a
        checkpoint is no record, and counts as one here.
        """
        now, attempt = self._alive(), self._attempt
        if record["kind"] == "start":
            self._start, self._step = record, record["step"]
            if attempt.first_step is None:
                attempt.first_step = record["step"]
            if self._started_from is None:  # the workers were started again within this attempt
                self._started_from = self._heard
        elif record["kind"] == "checkpoint":
            attempt.longest_checkpoint = max(attempt.longest_checkpoint, record.get("seconds", 0.0))
        elif record["kind"] in ("step", "evaluation"):
            if self._started_from is not None:
                attempt.add("starting", max(0.0, now - self._started_from - record["seconds"]))
                self._started_from = None
            if record["kind"] == "step":
                self._take_step(record)
            else:
                attempt.add("evaluation", record["seconds"])
                self._beside += record["seconds"] if self._steps else 0.0
        self._heard = now

    def _take_step(self, record: Mapping[str, Any]) -> None:
        attempt = self._attempt
        if record["step"] <= self._furthest:
            attempt.add("repeated", record["seconds"])
            attempt.repeated_steps += 1
        else:
            attempt.add("training", record["seconds"] - record["data_wait"])
            attempt.add("data_wait", record["data_wait"])
            self._furthest = record["step"]
        stall = record["checkpoint_stall"]
        attempt.add("checkpoint", stall)
        attempt.last_step = self._step = record["step"]
        self._recent.append((record["seconds"], record["tokens"]))
        self._steps += 1
        self._beside += stall

    def beat(self) -> None:
        """Say that the run is alive; often, for it writes only every ``BEAT_SECONDS``."""
        if self._alive() - self._written >= BEAT_SECONDS:
            self._write()

    def close(self, ended: Ended) -> None:
        """End the attempt: nothing is paid for from here on."""
        self._alive()
        self._attempt.ended = ended
        self._write()

    def dollars(self) -> float | None:
        """Dollars so far, over all attempts; None without a price."""
        self._alive()
        return dollars(self._attempts, self._cost.price)

    def seconds(self) -> float:
        """Seconds for which machines were held, over all attempts."""
        self._alive()
        return sum(attempt.hours for attempt in self._attempts) * 3600

    def commit_seconds(self) -> float:
        """What the longest checkpoint of all attempts took, in seconds; 0 if none was written yet."""
        return max(attempt.longest_checkpoint for attempt in self._attempts)

    def stop_at(self) -> float | None:
        """When the run must stop (seconds since 1970), so that its last checkpoint is still within the budget.

        One more step and the longest checkpoint of all attempts are set aside. None without a budget or a bill.
        """
        hourly = self._dollars_per_hour()
        spent = self.dollars()
        if not self._cost.budget or not hourly or spent is None:
            return None
        written = self.commit_seconds() or self._checkpoint_seconds
        left = (self._cost.budget - spent) / hourly * 3600
        return self._attempt.heartbeat.timestamp() + left - written - self._step_seconds()

    def status(self, last_step: int) -> dict[str, float | None]:
        """Where the run stands: what goes beside its figures to the terminal, the boards and Prometheus.

        Time left is steps left × (the recent steps' median + what evaluations and checkpoints took per step).

        Args:
            last_step: the step after which the run ends.

        Returns:
            tokens_per_second, mfu, hours_left (None until a step is taken), dollars, dollars_to_go.
        """
        seconds = sum(took for took, _ in self._recent)
        tokens = sum(count for _, count in self._recent)
        hours_left = None
        if self._steps:
            hours_left = (last_step - self._step) * (self._step_seconds() + self._beside / self._steps) / 3600
        hourly = self._dollars_per_hour()
        return {
            "tokens_per_second": tokens / seconds if seconds else None,
            "mfu": mfu(tokens, seconds, self._start.get("flops_per_token", 0.0), self._start.get("peak_flops")),
            "hours_left": hours_left,
            "dollars": self.dollars(),
            "dollars_to_go": None if hours_left is None or hourly is None else hours_left * hourly,
        }

    def _step_seconds(self) -> float:
        return median(took for took, _ in self._recent) if self._recent else 0.0

    def _dollars_per_hour(self) -> float | None:
        return None if self._cost.price is None else self._cost.price * self._attempt.units

    def _alive(self) -> float:
        now = self._now()
        self._attempt.heartbeat = max(self._attempt.heartbeat, utc(now))  # clocks are set back now and then
        return now

    def _write(self) -> None:
        write_attempts(self._ledger, self._attempts)
        self._written = self._now()
