"""After a failure: is it worth starting the workers again, and how soon?

Three kinds of failure, counted apart. An error comes from the code or its libraries and will most likely come again:
few are forgiven, and one that returns at the same step ends the run. A loss is a process or a machine that vanished,
which says nothing about the run. A preemption was announced; and where the workers left by themselves, or found no
place, nothing failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from koala_ray.errors import KoalaError, StorageFailure
from koala_ray.recipe import RetrySettings

Kind = Literal["error", "loss", "preemption", "left", "unplaced"]
KINDS: tuple[Kind, ...] = ("error", "loss", "preemption", "left", "unplaced")
NOT_PLACED = ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError")
"""What Ray Train raises, by names of its own, where a machine that was counted on is gone or taken by others."""
NOT_STARTED = "WorkerGroupStartupFailedError"
"""The same where a worker's process died while it started."""
WRAPPED = ("cause", "_base_exc", "controller_failure", "health_check_failure", "__cause__")
"""Where Ray's errors keep those that they wrap."""
LONGEST_WAIT = 300.0
"""Seconds between two starts at most."""


class LostWorker(RuntimeError):
    """Another worker hangs or is gone."""


class LeftMachines(Exception):
    """The workers left their machines for others; all they had done is in a checkpoint, or was given up."""


@dataclass(frozen=True)
class Fault:
    """What ended the workers."""

    kind: Kind
    text: str
    """In one line."""


def causes(error: BaseException | None) -> list[BaseException]:
    """An error of Ray Train's and all that it wraps: what each worker raised, and what was behind that."""
    found: list[BaseException] = []
    waiting = [error] if error else []
    while waiting:
        one = waiting.pop(0)
        if one not in found:
            found.append(one)
            inner = [getattr(one, name, None) for name in WRAPPED]
            failures = getattr(one, "worker_failures", None) or {}
            waiting += [each for each in [*failures.values(), *inner] if isinstance(each, BaseException)]
    return found


def refusal(error: BaseException) -> KoalaError | None:
    """The KoalaError that a worker raised, if that is what ended the workers: starting again would end alike.

    A storage that fails is none: it may be back.
    """
    found = (one for one in causes(error) if isinstance(one, KoalaError) and not isinstance(one, StorageFailure))
    return next(found, None)


def fault_of(error: BaseException) -> Fault:
    """What kind of failure an error of Ray Train's is.

    Where a worker vanished, the others fail too, since they wait for it: then it is a loss, whatever they say.
    """
    from ray.exceptions import RayActorError
    from ray.train import PreemptionError, WorkerGroupError

    found = causes(error)
    if any(isinstance(one, LeftMachines) for one in found):
        return Fault("left", "the workers left their machines")
    if any(type(one).__name__ in NOT_PLACED for one in found):
        return Fault("unplaced", "the machines that the workers were meant for are gone or in use")
    if any(type(one).__name__ == NOT_STARTED for one in found):
        return Fault("loss", "a worker ended while it started")
    if any(isinstance(one, PreemptionError) or getattr(one, "preempted", False) for one in found):
        return Fault("preemption", "a machine was taken away")
    storage = [one for one in found if isinstance(one, StorageFailure)]
    if storage:
        return Fault("loss", f"{storage[0].error} ({storage[0].where})")
    lost = [one for one in found if isinstance(one, LostWorker)]
    if lost:
        return Fault("loss", str(lost[0]))
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    ranks = sorted(rank for rank, one in failures.items() if any(isinstance(c, RayActorError) for c in causes(one)))
    if ranks or any(isinstance(one, RayActorError) for one in found):
        return Fault("loss", f"worker {', '.join(map(str, ranks))} vanished" if ranks else "a worker vanished")
    return Fault("error", last_line(next(iter(failures.values()), error)))


def last_line(error: Any) -> str:
    """An error in one line."""
    told = causes(error)[-1]
    lines = str(told).strip().splitlines()
    return f"{type(told).__name__}: {lines[-1]}" if lines else type(told).__name__


@dataclass
class Retries:
    """Counts failures and judges whether to start again."""

    settings: RetrySettings
    counts: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    _failed_at: dict[str, int] = field(default_factory=dict)
    _fruitless: int = 0
    _committed: int = -1

    def judge(self, fault: Fault, step: int, committed: int) -> float:
        """The seconds to wait before the workers are started again.

        The wait doubles with each failure since a checkpoint was committed.

        Args:
            fault: what ended them.
            step: steps taken when they ended.
            committed: steps that are safe in a checkpoint.

        Raises:
            RuntimeError: it isn't worth it, and why.
        """
        self.counts[fault.kind] += 1
        if fault.kind in ("left", "unplaced"):
            return 0.0
        count, limit = self.counts[fault.kind], self._limit(fault.kind)
        if fault.kind == "error" and self._failed_at.get(fault.text) == step:
            raise RuntimeError(f"training failed twice after step {step} with the same error: {fault.text}")
        if limit is not None and count > limit:
            times = f" ({count} {'errors' if fault.kind == 'error' else 'losses'})" if count > 1 else ""
            raise RuntimeError(f"training failed after step {step}: {fault.text}{times}")
        if fault.kind == "error":
            self._failed_at[fault.text] = step
        self._fruitless = 0 if committed > self._committed else self._fruitless + 1
        self._committed = committed
        return min(LONGEST_WAIT, self.settings.wait_seconds * 2**self._fruitless) if self._fruitless else 0.0

    def _limit(self, kind: Kind) -> int | None:
        return {"error": self.settings.errors, "loss": self.settings.losses}.get(kind)
