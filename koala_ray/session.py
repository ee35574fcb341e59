"""A Ray to work on: the one that the shell names, or a private one of this machine. Its chatter goes to a file.

``RAY_ADDRESS`` (set inside jobs, and by the lines that ``koala-ray cluster up`` prints) names a cluster.
Without it a private Ray starts, with token authentication and nothing listening beyond loopback, and ends
with the command.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.forkserver.environment import runtime_environment
from koala_ray.quiet import send_logs_to_file, set_switches

OBJECT_STORE_BYTES = 2 << 30
CONNECT_SECONDS = 10.0
KNOCK_SECONDS = 1.0


def connect() -> Any:
    """The ``ray`` module, connected; it stays so until the process ends, as with ``ray.init()``.

    Raises:
        KoalaError: the cluster that ``RAY_ADDRESS`` names doesn't answer.
    """
    set_switches()
    address = os.environ.get("RAY_ADDRESS")
    if not address and "ray" not in sys.modules:
        # Ray reads these when it is imported, not when it starts. Imported before, it uses its own token file.
        from koala_ray.cluster.token import auth_environment, loopback_environment

        os.environ.update(auth_environment() | loopback_environment())
    import ray

    if not ray.is_initialized():
        send_logs_to_file()
        if address:
            _join_cluster(ray, address)
        else:
            _start_private(ray)
    _quiet_data()
    return ray


def _join_cluster(ray: Any, address: str) -> None:
    try:
        _knock(address)
        ray.init(address=address, runtime_env=runtime_environment(), log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise KoalaError(
            f"the Ray cluster doesn't answer: {str(error).splitlines()[0]}",
            where=f"RAY_ADDRESS={address}",
            mend="start one (`koala-ray cluster up`), or unset RAY_ADDRESS for a private Ray",
        ) from error


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray would go on trying for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _start_private(ray: Any) -> None:
    ray.init(
        address="local",
        num_cpus=cpu_count(),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        runtime_env=runtime_environment(),
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def check_resources(ray: Any, count: int, cpus: float, gpus: int, part: str) -> None:
    """Refuse what the cluster can't give: Ray would wait for it for ever.

    Args:
        ray: the connected Ray.
        count: processes wanted at the same time.
        cpus: CPUs for each.
        gpus: GPUs for each.
        part: the part of the recipe that asks, ``train`` or ``generate``.

    Raises:
        KoalaError: no nodes of the cluster together have room for them.
    """
    alive = [node["Resources"] for node in staying_nodes(ray)]
    for kind, each in (("CPU", cpus), ("GPU", gpus)):
        if not each:
            continue
        room = sum(int(node.get(kind, 0) // each) for node in alive)
        if room < count:
            have = sum(node.get(kind, 0) for node in alive)
            setting = f"{part}.{kind.lower()}s" + ("_per_worker" if part == "train" else "")
            many = "workers" if part == "train" else "replicas"
            fewer = f"--set {part}.{many}={room} or " if room else ""
            raise KoalaError(
                f"{count} × {each:g} {kind}s are asked for, the cluster has {have:g}",
                where=setting,
                mend=f"{fewer}a smaller {setting}, or a larger cluster",
            )


def draining_nodes() -> dict[str, float]:
    """The nodes that will be taken away, by their ids in hex, each with when: seconds since 1970, or infinity."""
    from ray._private.state import state  # Ray Train's own watcher asks the same; there is no public way

    return {node: ms / 1000 if ms else math.inf for node, ms in state.get_draining_nodes().items()}


def staying_nodes(ray: Any) -> list[dict[str, Any]]:
    """The cluster's nodes that are alive and not about to be taken away."""
    leaving = draining_nodes()
    return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]


def answers(node: dict[str, Any]) -> bool:
    """Whether a node's Ray takes connections; of a machine that was switched off Ray itself learns some 15 s later."""
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


def silent_nodes(ray: Any) -> list[str]:
    """The ids, in hex, of the nodes that Ray counts as alive and that don't answer."""
    return [node["NodeID"] for node in staying_nodes(ray) if not answers(node)]


def room(ray: Any, cpus: float, gpus: int, free: bool = False, answering: bool = False) -> int:
    """How many processes with so many CPUs and GPUs the nodes hold that stay.

    Args:
        ray: the connected Ray.
        cpus: CPUs for each.
        gpus: GPUs for each.
        free: count only what nobody has now.
        answering: count only nodes that answer.
    """
    from ray._private.state import available_resources_per_node

    wanted = [(kind, each) for kind, each in (("CPU", cpus), ("GPU", gpus)) if each]
    now = available_resources_per_node() if free else {}
    nodes = [node for node in staying_nodes(ray) if not answering or answers(node)]
    resources = [now.get(node["NodeID"], {}) if free else node["Resources"] for node in nodes]
    return sum(min(int(node.get(kind, 0) // each) for kind, each in wanted) for node in resources)


def cpu_count() -> int:
    """The CPUs that a private Ray gives away: ``$KOALA_RAY_CPUS``, or those that this process may use."""
    return int(os.environ.get("KOALA_RAY_CPUS") or len(os.sched_getaffinity(0)))


def _quiet_data() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What a step writes must not depend on which task ends first.
    context.execution_options.preserve_order = True


def log_folder() -> str:
    """Where the connected Ray keeps its workers' logs."""
    import ray

    node = ray._private.worker.global_worker.node
    return str(node.get_logs_dir_path()) if node else "the Ray session's logs folder"
