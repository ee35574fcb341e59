"""The spot-notice agent: one small process on each node that tells Ray when its machine is about to be taken away.

Nothing in Ray asks the clouds. The agent does, and drains its own node with the deadline: from then on Ray puts nothing
new on it, and a training run that uses it learns of it within seconds (:mod:`koala_ray.preempt.signals`).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.preempt.sources import Notice, Source

TRIES = 5
REASON = "koala-ray spot notice"


class Agent:
    """Asks its sources every few seconds, until one gives notice."""

    def __init__(
        self, sources: Sequence[Source], drain: Callable[[Notice], None], say: Callable[[str], None], every: float
    ) -> None:
        self._sources, self._drain, self._say, self._every = sources, drain, say, every
        self._stop, self._woken = False, threading.Event()
        self._told: Notice | None = None
        self._failing: set[str] = set()

    def run(self) -> Notice | None:
        """Watch until notice is given and Ray knows of it; None if :meth:`stop` ended it before."""
        while not self._stop:
            notice = self._told or self._look()
            if notice:
                self._say(f"{notice.text}: draining this node, {max(0.0, notice.deadline - time.time()):.0f} s left")
                self._drain_surely(notice)
                return notice
            self._woken.wait(self._every)
        return None

    def give_notice(self, notice: Notice) -> None:
        """Take a notice that came otherwise (a signal)."""
        self._told = notice
        self._woken.set()

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stop = True
        self._woken.set()

    def _look(self) -> Notice | None:
        for source in self._sources:
            try:
                notice = source.look()
            except (OSError, ValueError, KeyError) as error:
                if source.name not in self._failing:
                    self._say(f"{source.name} can't be asked ({error}); trying on")
                self._failing.add(source.name)
                continue
            self._failing.discard(source.name)
            if notice:
                return notice
        return None

    def _drain_surely(self, notice: Notice) -> None:
        for attempt in range(TRIES):
            try:
                self._drain(notice)
                return
            except Exception as error:
                self._say(f"Ray didn't take the notice: {error}")
                if attempt < TRIES - 1:
                    time.sleep(0.5 * 2**attempt)
        raise KoalaError(
            "Ray couldn't be told that this node will be taken away",
            where="its control store",
            mend="check that the head node is up and that this machine has the cluster's token",
        )


def drainer(address: str, node_id: str) -> Callable[[Notice], None]:
    """A function that drains a node of a running cluster.

    Args:
        address: the control store's, HOST:PORT.
        node_id: the node's, in hex.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
    from ray.core.generated import autoscaler_pb2

    client = GcsClient(address=address)

    def drain(notice: Notice) -> None:
        reason = autoscaler_pb2.DrainNodeReason.Value(  # type: ignore[attr-defined]
            "DRAIN_NODE_REASON_PREEMPTION"
        )
        taken, message = client.drain_node(node_id, reason, f"{REASON}: {notice.text}", int(notice.deadline * 1000))
        if not taken:
            raise RuntimeError(message)

    return drain


def this_node(address: str) -> str:
    """The id of the one node of a cluster that runs on this machine, in hex.

    Raises:
        KoalaError: there is none, or several.
    """
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

    here = ray.util.get_node_ip_address()
    nodes = [
        node_id.hex()
        for node_id, node in GcsClient(address=address).get_all_node_info().items()
        if node.node_manager_address == here and node.state == 0
    ]
    if len(nodes) != 1:
        found = "none" if not nodes else "several: " + ", ".join(node[:12] for node in nodes)
        raise KoalaError(
            f"which node of the cluster at {address} is this machine ({here})? {found}",
            where="--node-id",
            mend="start the agent after `ray start`, or name the node with --node-id",
        )
    return nodes[0]


def cluster_address() -> str:
    """The control store's address of the cluster that this machine belongs to.

    Raises:
        KoalaError: it belongs to none.
    """
    from ray._private.services import canonicalize_bootstrap_address

    found: Any = canonicalize_bootstrap_address("auto")
    if not found:
        raise KoalaError(
            "no Ray runs on this machine", where="RAY_ADDRESS", mend="`ray start` first, or give --address HOST:PORT"
        )
    return str(found)


def on_sigterm(agent: Agent, seconds: float) -> None:
    """Take SIGTERM, which Kubernetes and systemd send, for a notice."""

    def handle(number: int, frame: object) -> None:
        agent.give_notice(Notice("SIGTERM", time.time() + seconds))

    signal.signal(signal.SIGTERM, handle)
