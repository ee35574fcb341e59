"""A running cluster as a drill's machines. Only the drill's own workers are killed, and the head node never is."""

from __future__ import annotations

import json
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.preempt.fleet import wait_for
from koala_ray.preempt.hand import Hand
from koala_ray.preempt.power import NAMESPACE
from koala_ray.session import answers, connect

PATIENCE = 60.0
"""Seconds to wait for an actor on a node."""
HEAD = "node:__internal_head__"
"""The resource that only a cluster's head node has."""
WORKER_CLASS = "RayTrainWorker"
NOT_TOLD = ("CPU", "GPU", "memory", "object_store_memory")
"""Resources that ``ray start`` has options for."""
FOUND = ("node:", "accelerator_type:")
"""How the names of resources begin that Ray finds by itself."""


@dataclass(frozen=True)
class GivenWorker:
    """A process of Ray Train's on some machine."""

    hand: Any
    pid: int

    def kill(self) -> None:
        """SIGKILL."""
        self._send(signal.SIGKILL)

    def suspend(self) -> None:
        """SIGSTOP. Ray Train ends the worker when it has said nothing for too long."""
        self._send(signal.SIGSTOP)

    def _send(self, number: int) -> None:
        import ray

        with suppress(ray.exceptions.RayError):  # its node is gone, and it with it
            ray.get(self.hand.send.remote(self.pid, int(number)), timeout=PATIENCE)


@dataclass(frozen=True)
class GivenAgent:
    """The spot-notice agent of a node."""

    hand: Any

    def give_notice(self, seconds: float) -> None:
        """Write the file that it waits for."""
        self._get(self.hand.give_notice.remote(seconds))

    def wait(self, seconds: float) -> None:
        """Wait until Ray was told.

        Raises:
            TimeoutError: it wasn't in time.
        """
        if not self._get(self.hand.wait_for_agent.remote(seconds), seconds):
            raise TimeoutError(f"the agent hasn't told Ray of the notice within {seconds:g} s")

    def kill(self) -> None:
        """End it."""
        self._get(self.hand.kill_agent.remote())

    @staticmethod
    def _get(answer: Any, seconds: float = 0.0) -> Any:
        import ray

        return ray.get(answer, timeout=seconds + PATIENCE)


class GivenCluster:
    """The cluster that this process is connected to."""

    def __init__(self, ray: Any) -> None:
        """Take it.

        Args:
            ray: the connected Ray.
        """
        self._ray = ray
        self.address: str = ray.get_runtime_context().gcs_address
        self.driver = 0
        self._hands: dict[str, Any] = {}
        self._away: list[str] = []
        self._owed = 0

    def train_workers(self, node: dict[str, Any] | None = None) -> list[GivenWorker]:
        """The workers of the run that :attr:`driver` drives, on a node or on all of them."""
        return [
            GivenWorker(self._hand(place), pid)
            for place, pid in self._places()
            if node is None or node["NodeID"] == place
        ]

    def working_nodes(self) -> list[dict[str, Any]]:
        """The nodes that have some of them, without the head.

        Raises:
            KoalaError: all workers are on the head node.
        """
        places = {place for place, _ in self._places()}
        found = [node for node in self._takeable() if node["NodeID"] in places]
        if places and not found:
            raise _head_alone("all workers are on the cluster's head node")
        return found

    def check(self, takes_nodes: bool) -> None:
        """Refuse a drill that can't be, before it costs anything.

        Args:
            takes_nodes: some kill takes a node away.

        Raises:
            KoalaError: there is only the head node.
        """
        if takes_nodes and not self._takeable():
            raise _head_alone("this cluster has only its head node")

    def lose(self, node: dict[str, Any]) -> None:
        """Kill all processes of a node at once. Its machine stays, and waits to be called back."""
        key = uuid.uuid4().hex
        self._hand(node["NodeID"]).switch_off.remote(self.address, key, rejoin_command(self.address, node))
        self._away.append(key)
        # Not by the answer, which can't come: Ray itself takes some 15 s to see that a machine has gone.
        wait_for(lambda: not answers(node), PATIENCE, "the node to go")
        del self._hands[node["NodeID"]]
        if self._owed:
            self._owed -= 1
            self._call_back()

    def add(self) -> None:
        """Call a machine back that was lost, or the next one as soon as it is."""
        if self._away:
            self._call_back()
        else:
            self._owed += 1

    def start_agent(self, node: dict[str, Any]) -> GivenAgent:
        """Start one more agent on a node; one that watches the cloud there is left alone."""
        hand = self._hand(node["NodeID"])
        self._ray.get(hand.start_agent.remote(self.address, node["NodeID"]), timeout=PATIENCE)
        return GivenAgent(hand)

    def close(self) -> None:
        """Call back what is still away, and take the hands off the cluster."""
        while self._away:
            self._call_back()
        for hand in self._hands.values():
            self._ray.kill(hand)

    def _takeable(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"] and HEAD not in node["Resources"]]

    def _places(self) -> list[tuple[str, int]]:
        """The run's workers: each one's node id in hex, and its process id there."""
        from ray._private.state import jobs, state  # ray.util.state asks the dashboard, which not every cluster has

        here = self._ray.util.get_node_ip_address()
        own = {job["JobID"] for job in jobs() if (job["DriverPid"], job["DriverIPAddress"]) == (self.driver, here)}
        return [
            (actor["Address"]["NodeID"], actor["Pid"])
            for actor in state.actor_table(None, None, "ALIVE").values()
            if actor["ActorClassName"] == WORKER_CLASS and actor["JobID"] in own
        ]

    def _hand(self, node_id: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if node_id not in self._hands:
            pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
            actor = self._ray.remote(num_cpus=0, max_concurrency=2, scheduling_strategy=pinned)(Hand)
            self._hands[node_id] = actor.remote()
        return self._hands[node_id]

    def _call_back(self) -> None:
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(self._away.pop(0).encode(), b"1", namespace=NAMESPACE)


def _head_alone(what: str) -> KoalaError:
    return KoalaError(
        f"{what}, which can't be taken away",
        where="--kills",
        mend="a cluster with more nodes, or kills that take none: worker, workers_all, hang, driver, upload",
    )


def rejoin_command(address: str, node: dict[str, Any]) -> list[str]:
    """The command line that starts a node's Ray again as it was.

    Args:
        address: the control store's.
        node: as ``ray.nodes()`` describes it.
    """
    resources, labels = node["Resources"], node["Labels"]
    own = {name: value for name, value in resources.items() if name not in NOT_TOLD and not name.startswith(FOUND)}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats", "--address", address]
    command += ["--node-ip-address", node["NodeManagerAddress"]]
    command += ["--num-cpus", f"{resources.get('CPU', 0):.0f}", "--num-gpus", f"{resources.get('GPU', 0):.0f}"]
    command += ["--memory", f"{resources['memory']:.0f}"]
    command += ["--object-store-memory", f"{resources['object_store_memory']:.0f}"]
    command += ["--resources", json.dumps(own)]
    told = ",".join(f"{name}={value}" for name, value in labels.items() if not name.startswith("ray.io/"))
    return [*command, "--labels", told] if told else command


@contextmanager
def given_cluster() -> Iterator[GivenCluster]:
    """The cluster that ``RAY_ADDRESS`` names; what was taken from it is given back afterwards.

    Raises:
        KoalaError: it doesn't answer.
    """
    here = GivenCluster(connect())
    try:
        yield here
    finally:
        here.close()
