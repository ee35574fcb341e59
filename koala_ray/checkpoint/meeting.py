"""Where the workers' background threads meet: a small key-value store that the first worker keeps.

Collectives are the training loop's: two threads that both called them would meet each other's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch.distributed as dist

POLL_SECONDS = 0.02


class Meeting:
    """Values that each worker puts up and others wait for."""

    def __init__(self, store: dist.Store, attempt: str, seconds: float) -> None:
        self._store, self._seconds = store, seconds
        self.attempt = attempt
        """A name that no other start of the workers has."""

    @classmethod
    def open(cls, seconds: float) -> Meeting:
        """Meet; every worker must call it.

        Args:
            seconds: how long a worker waits for another one's value.
        """
        host, first = os.environ.get("MASTER_ADDR", "127.0.0.1"), dist.get_rank() == 0
        patience = timedelta(seconds=seconds)
        store = dist.TCPStore(host, 0, is_master=True, timeout=patience, wait_for_workers=False) if first else None
        told: list[Any] = [(store.port, uuid4().hex[:8]) if store else None]
        dist.broadcast_object_list(told)
        port, attempt = told[0]
        return cls(store or dist.TCPStore(host, port, is_master=False, timeout=patience), attempt, seconds)

    def put(self, key: str, value: Any) -> None:
        """Put up a value, as JSON can hold it."""
        self._store.set(key, json.dumps(value))

    def take(self, keys: Sequence[str]) -> list[Any]:
        """Wait for values.

        Raises:
            TimeoutError: a value didn't come in time.
        """
        until = time.monotonic() + self._seconds
        found = []
        for key in keys:
            # Not the store's own wait, which would keep its lock from this worker's other thread.
            while not self._store.check([key]):
                if time.monotonic() > until:
                    raise TimeoutError(f"{key} was not heard of within {self._seconds:g} s")
                time.sleep(POLL_SECONDS)
            found.append(json.loads(self._store.get(key)))
        return found
