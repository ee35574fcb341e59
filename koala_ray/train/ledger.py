"""A run's own ledger: every attempt at it, how long its machines were held, what they cost and what they did.

It lies beside the run's figures as one JSON object a line and outlives every attempt, the killed ones too: an
attempt that never said how it ended counts up to its last heartbeat.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from koala_ray import storage
from koala_ray.errors import KoalaError

Kind = Literal["starting", "training", "data_wait", "checkpoint", "evaluation", "repeated"]
Ended = Literal["finished", "failed", "budget"]


@dataclass
class Attempt:
    """One attempt at a run, from asking for its machines until it ended or was last known alive."""

    started: datetime
    """UTC, as all times here."""
    heartbeat: datetime
    """When it was last known alive."""
    nodes: int
    gpus: int
    price: float | None
    """Dollars for an hour of one GPU, or of one node where there are none; None if unknown."""
    first_step: int | None = None
    """Steps taken when it began; None if its workers never began."""
    last_step: int | None = None
    """Steps taken when it was last heard of."""
    ended: Ended | None = None
    """None while it runs, and for ever if it was killed."""
    repeated_steps: int = 0
    """Steps that an earlier attempt, or this one before its workers were lost, had taken already."""
    seconds: dict[Kind, float] = field(default_factory=dict)
    """What the time went to, as far as known; ``repeated`` are steps that an earlier attempt had taken already."""
    longest_checkpoint: float = 0.0
    """Seconds from the copy to the commit."""

    @property
    def hours(self) -> float:
        """Hours from its start to its last heartbeat."""
        return (self.heartbeat - self.started).total_seconds() / 3600

    @property
    def units(self) -> int:
        """What the price is for: GPUs, or nodes where there are none."""
        return self.gpus or self.nodes

    def add(self, kind: Kind, seconds: float) -> None:
        """Count seconds under a kind."""
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds


def dollars(attempts: Sequence[Attempt], price: float | None) -> float | None:
    """What attempts cost: the sum of hours × units × price; None where no price is known.

    The time between attempts is not in it: machines that are kept without a run are the cluster's bill.

    Args:
        attempts: the run's attempts.
        price: counts for attempts that were begun without one.
    """
    if price is None:
        return None
    return sum(
        attempt.hours * attempt.units * (price if attempt.price is None else attempt.price) for attempt in attempts
    )


def read_attempts(uri: str) -> list[Attempt]:
    """The attempts in a ledger, in order; none if there is no such file.

    Raises:
        KoalaError: the ledger can't be read.
    """
    if not storage.exists(uri):
        return []
    try:
        return [_parse(json.loads(line)) for line in storage.read_bytes(uri).decode().splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise KoalaError(
            f"the run's ledger is damaged: {error}", where=uri, mend="remove the file; what was spent is then forgotten"
        ) from error


def write_attempts(uri: str, attempts: Sequence[Attempt]) -> None:
    """Write a ledger anew; a reader sees all of it or the one before."""
    lines = [json.dumps(asdict(attempt), default=datetime.isoformat) + "\n" for attempt in attempts]
    storage.write_atomic(uri, "".join(lines).encode())


def utc(seconds: float) -> datetime:
    """A time in seconds since 1970, to the microsecond that the ledger keeps."""
    return datetime.fromtimestamp(seconds, UTC)


def _parse(values: dict[str, Any]) -> Attempt:
    times = {name: datetime.fromisoformat(values[name]) for name in ("started", "heartbeat")}
    return Attempt(**{**values, **times})
