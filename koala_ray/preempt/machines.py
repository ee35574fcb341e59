"""Several Ray nodes on this machine, each of which can vanish: what a drill and the chaos tests take for machines."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from koala_ray.forkserver.environment import SERVER
from koala_ray.preempt.hand import agent_command
from koala_ray.quiet import set_switches

STORE_BYTES = 100 << 20
TRAIN_WORKER = "ray::RayTrainWorker"
"""How the processes of Ray Train's workers are called."""


@dataclass(frozen=True)
class LocalAgent:
    """The spot-notice agent of a node."""

    process: subprocess.Popen[bytes]
    file: Path

    def give_notice(self, seconds: float) -> None:
        """Write the file that it waits for."""
        self.file.write_text(str(seconds))

    def wait(self, seconds: float) -> None:
        """Wait until Ray was told.

        Raises:
            TimeoutError: it wasn't in time.
        """
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"the agent hasn't told Ray of the notice within {seconds:g} s") from error

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


class Machines:
    """A head node without CPUs, which is never taken away, and nodes that come and go."""

    def __init__(self, cluster: Any, cpus: int) -> None:
        self._cluster, self._cpus = cluster, cpus
        self.address: str = cluster.address
        self.dashboard = f"http://{cluster.head_node.webui_url}"
        """Where jobs are submitted, if it was asked for."""
        self.nodes: list[Any] = []
        self.driver = 0  # nobody else's workers are here
        self._folder = tempfile.TemporaryDirectory(prefix="koala-drill-")
        self._agents: list[LocalAgent] = []

    def check(self, takes_nodes: bool) -> None:
        """Any drill can be: there are nodes, and more are started."""

    def add(self) -> Any:
        """One more node."""
        node = self._cluster.add_node(num_cpus=self._cpus, object_store_memory=STORE_BYTES)
        self.nodes.append(node)
        return node

    def lose(self, node: Any) -> None:
        """Kill all processes of a node at once, as if the machine had been switched off."""
        for process in processes(node):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def train_workers(self, node: Any | None = None) -> list[psutil.Process]:
        """The processes of Ray Train's workers, on a node or on all of them."""
        found = []
        for one in [node] if node else self.nodes:
            for process in processes(one):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if " ".join(process.cmdline()).startswith(TRAIN_WORKER):
                        found.append(process)
        return found

    def working_nodes(self) -> list[Any]:
        """The nodes that have a train worker."""
        return [node for node in self.nodes if self.train_workers(node)]

    def start_agent(self, node: Any) -> LocalAgent:
        """Start the real spot-notice agent of a node."""
        file = Path(self._folder.name) / node.node_id
        command = agent_command(self.address, node.node_id, file)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._agents.append(LocalAgent(process, file))
        return self._agents[-1]

    def close(self) -> None:
        """End everything."""
        for agent in self._agents:
            agent.kill()
        for process in self.train_workers():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        self._cluster.shutdown()
        self._folder.cleanup()


def processes(node: Any) -> list[psutil.Process]:
    """All processes of a node, its raylet last; none if it is gone."""
    raylet = node.all_processes.get("raylet")
    return processes_of(int(raylet[0].process.pid)) if raylet else []


def processes_of(raylet: int) -> list[psutil.Process]:
    """All processes of a raylet, itself last. Its fork server (:mod:`koala_ray.forkserver`) is nobody's child."""
    found: list[psutil.Process] = []
    for root in [process for process in psutil.process_iter() if process.pid == raylet or _serves(process, raylet)]:
        with suppress(psutil.NoSuchProcess):
            found = [*root.children(recursive=True), root, *found]
    return found


def _serves(process: psutil.Process, raylet: int) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        line = process.cmdline()
        return len(line) > 1 and line[1] == str(SERVER) and process.environ().get("RAY_RAYLET_PID") == str(raylet)
    return False


@contextmanager
def machines(count: int, cpus: int = 1, dashboard: bool = False) -> Iterator[Machines]:
    """A cluster of so many machines on this one, ended afterwards.

    The environment then has what a process needs to reach it, but its address.

    Args:
        count: nodes besides the head.
        cpus: CPUs that each gives away.
        dashboard: with the dashboard and its job API.
    """
    from koala_ray.cluster.token import auth_environment, loopback_environment

    set_switches()
    os.environ.update(auth_environment() | loopback_environment())
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": dashboard, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "node_ip_address": "127.0.0.1"})
    here = Machines(cluster, cpus)
    try:
        for _ in range(count):
            here.add()
        yield here
    finally:
        here.close()
