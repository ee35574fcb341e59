"""What a drill needs of the machines that it disturbs: this machine's own nodes, or a cluster that somebody started."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Worker(Protocol):
    """A process of Ray Train's."""

    def kill(self) -> None:
        """SIGKILL."""

    def suspend(self) -> None:
        """SIGSTOP."""


class Announcer(Protocol):
    """The real spot-notice agent of a node, which waits for a file."""

    def give_notice(self, seconds: float) -> None:
        """Write the file: the node has so many seconds left."""

    def wait(self, seconds: float) -> None:
        """Wait until Ray was told.

        Raises:
            TimeoutError: it wasn't in time.
        """

    def kill(self) -> None:
        """End the agent, so that nobody hears of the notice."""


class Fleet(Protocol):
    """Machines that can vanish and come back. What a node is, is the fleet's own affair."""

    address: str
    """The control store's, HOST:PORT."""
    driver: int
    """The id of the process that drives the run, on this machine; it says whose workers are meant."""

    def check(self, takes_nodes: bool) -> None:
        """Refuse a drill that can't be, before it costs anything.

        Raises:
            KoalaError: a kill takes a node away, and there is none that may be.
        """

    def train_workers(self, node: Any | None = None) -> Sequence[Worker]:
        """The run's workers, on a node or on all of them."""

    def working_nodes(self) -> list[Any]:
        """The nodes that have some of them and that can be taken away."""

    def lose(self, node: Any) -> None:
        """End all processes of a node at once, as if the machine had been switched off."""

    def add(self) -> Any:
        """One more node; if none can be had, the one that was lost, or the next one that will be, comes back."""

    def start_agent(self, node: Any) -> Announcer:
        """Start the agent of a node."""


def wait_for(happened: Callable[[], T], seconds: float, what: str, every: float = 0.02) -> T:
    """Wait until a function gives something true, and give that.

    Raises:
        TimeoutError: it didn't in time.
    """
    until = time.monotonic() + seconds
    while not (found := happened()):
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return found
