"""Which processes belong to a cluster, where they listen, and how they are ended."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

from koala_ray.cluster.state import LocalCluster

MARK_VARIABLE = "KOALA_RAY_CLUSTER"
_POLL_S = 0.05
_SERVERS_S = 2.0
_KILL_S = 10.0


def created(pid: int) -> float:
    """When a process was created, in seconds since the epoch.

    Args:
        pid: the process id.
    """
    return psutil.Process(pid).create_time()


def find_head(cluster: LocalCluster) -> psutil.Process | None:
    """The live head of a cluster; None when it ended, also when another process has its number now.

    The mark in its environment decides. Where that can't be read the creation time does, with a
    second's leave, as setting the clock shifts it.

    Args:
        cluster: the recorded cluster.
    """
    with suppress(psutil.Error):
        process = psutil.Process(cluster.pid)
        if _gone(process):
            return None
        mark = None
        with suppress(psutil.AccessDenied):
            mark = process.environ().get(MARK_VARIABLE)
        if mark == cluster.mark or (mark is None and abs(process.create_time() - cluster.created) < 1.0):
            return process
    return None


def belonging(cluster: LocalCluster) -> list[psutil.Process]:
    """Every live process of a cluster, whether its head still lives or not; never the caller itself.

    Three ways lead to one: it descends from the head, it is in the head's session, or it inherited
    the head's mark in its environment. The last finds what a job sent into a session of its own, the
    first two find Ray's workers, whose titles overwrite the environment that others can read. A
    command line that names the cluster's folder proves nothing: a `tail -f` of its log does, too.

    Args:
        cluster: the recorded cluster.
    """
    head = find_head(cluster)
    tree: set[int] = set()
    if head is not None:
        tree.add(head.pid)
        with suppress(psutil.Error):
            tree.update(child.pid for child in head.children(recursive=True))
    # While a session has members the kernel hands out its number to nobody, so if another process
    # has the number, then nothing of our session is left and the session of that name isn't ours.
    session_is_ours = head is not None or not psutil.pid_exists(cluster.pid)
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid() or _gone(process):
            continue
        with suppress(psutil.Error):
            in_session = session_is_ours and _in_session(process, cluster.pid)
            if process.pid in tree or in_session or process.environ().get(MARK_VARIABLE) == cluster.mark:
                found.append(process)
    return found


def exposed(processes: Iterable[psutil.Process]) -> list[str]:
    """What of these processes other machines could reach, as ``name ip:port``; empty when nothing.

    Args:
        processes: whose listening TCP sockets are looked at.
    """
    found = []
    for process in processes:
        with suppress(psutil.Error):
            name = process.name()
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and not _loopback(connection.laddr.ip):
                    found.append(f"{name} {connection.laddr.ip}:{connection.laddr.port}")
    return found


def end(cluster: LocalCluster, timeout_s: float) -> tuple[int, list[psutil.Process]]:
    """Asks a cluster's processes to end, waits, and kills those that don't.

    Args:
        cluster: the recorded cluster.
        timeout_s: how long jobs have between SIGTERM and SIGKILL; Ray itself has at most 2 s.

    Returns:
        how many processes there were, and those that outlived even SIGKILL.
    """
    known = belonging(cluster)
    jobs = [process for process in known if not _in_session(process, cluster.pid)]
    for process in known:
        with suppress(psutil.Error):
            process.terminate()
    # Ray starts each job in a session of its own; the head's holds Ray's servers, which keep nothing
    # on disk, and workers, which end with them. Asked to end, the address server and an agent try for
    # 10 to 30 s to reach each other: they don't get that long.
    _wait(jobs, timeout_s)
    _wait(known, min(_SERVERS_S, timeout_s))
    seen = set(known)
    deadline = time.monotonic() + _KILL_S
    while left := _living([*seen, *belonging(cluster)]):
        if time.monotonic() > deadline:
            break
        seen.update(left)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        _wait(left, 1.0)
    return len(seen), left


def _in_session(process: psutil.Process, session: int) -> bool:
    with suppress(OSError):
        return os.getsid(process.pid) == session
    return False


def _wait(processes: list[psutil.Process], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while _living(processes) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in dict.fromkeys(processes) if not _gone(process)]


def _gone(process: psutil.Process) -> bool:
    # A zombie has ended; where nobody reaps it, as in a container without an init, it stays listed.
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def _loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip.split("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
