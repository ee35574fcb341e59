"""The local Ray cluster: started once with a token and on loopback only, looked at, ended whole."""

from __future__ import annotations

import dataclasses
import http.client
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from koala_ray.cluster import dashboard, processes, token
from koala_ray.cluster.state import LocalCluster, cluster_folder, locked, read_state, state_file, write_state
from koala_ray.errors import KoalaError

LOOPBACK = "127.0.0.1"
_POLL_S = 0.1
_LOG_LINES = 15
# A unix socket's path holds 107 bytes (103 on macOS) and Ray adds up to 64 to its folder's.
_LONGEST_SESSION = 37
_SESSION_PREFIX = "koala-ray-"
_RAYS = "r"  # Ray opens its folder to all users (mode 0777), so it gets one inside a folder of ours
# What a surrounding shell or job says of another cluster must not reach the head or its jobs.
_OTHER_CLUSTERS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_CONFIG_JSON_ENV_VAR")
# A Popen that is dropped while its process runs warns; these are meant to outlive the caller.
_started: list[subprocess.Popen[bytes]] = []


def up(
    *, cpus: int | None = None, port: int = 6379, dashboard_port: int = 8265, timeout_s: float = 90.0
) -> LocalCluster:
    """Starts the local cluster and waits until it answers; one that already runs is returned instead.

    Jobs start in the caller's current folder, with this Python first on their PATH.

    Args:
        cpus: how many CPUs Ray may use; all when left out.
        port: the wanted port of the cluster's address; a free one is taken when it is in use.
        dashboard_port: the same for the dashboard and its job API.
        timeout_s: how long to wait for both to answer.

    Raises:
        KoalaError: it didn't start, or could be reached from other machines; nothing is left running.
    """
    if cpus is not None and cpus < 1:
        raise KoalaError("a cluster needs at least one CPU", where=f"cpus={cpus}", mend="give 1 or more")
    with locked():
        recorded = read_state()
        if recorded is not None:
            if _runs(recorded):
                return dataclasses.replace(recorded, already_up=True)
            _end(recorded, timeout_s=0.0)  # its head died: nothing of it may stand in the way
        cluster = _start(cpus, port, dashboard_port)
        try:
            cluster = _wait_until_ready(cluster, time.monotonic() + timeout_s, timeout_s)
            _refuse_exposure(cluster)
        except BaseException:
            _end(cluster, timeout_s=2.0)
            raise
        write_state(cluster)
        return cluster


def status() -> dict[str, Any]:
    """What runs: address, dashboard, nodes, dollars_per_hour (none here), jobs.

    Raises:
        KoalaError: no local cluster runs, or it doesn't answer, or not to this token.
    """
    cluster = read_state()
    if cluster is None or not _runs(cluster):
        raise KoalaError("no local cluster is running", mend="start one: koala-ray cluster up")
    try:
        return {
            "address": cluster.address,
            "dashboard": cluster.dashboard,
            "nodes": dashboard.nodes(cluster.dashboard, cluster.token),
            "dollars_per_hour": 0.0,
            "jobs": dashboard.jobs(cluster.dashboard, cluster.token),
        }
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise KoalaError(
                f"the cluster refuses this token (HTTP {error.code})",
                where=cluster.dashboard,
                mend=f"set {token.TOKEN_VARIABLE} and {token.PATH_VARIABLE} as when it was started",
            ) from error
        raise _unanswered(cluster, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unanswered(cluster, error) from error


def down(timeout_s: float = 30.0) -> dict[str, Any]:
    """Ends every process that `up` started, jobs included, and nothing else; keeps Ray's logs.

    Args:
        timeout_s: how long they have to end by themselves before they are killed.

    Returns:
        ``ended`` (number of processes; 0 when nothing ran), ``address`` and ``logs``, a folder.

    Raises:
        KoalaError: a process outlived SIGKILL.
    """
    with locked():
        cluster = read_state()
        if cluster is None:
            return {"ended": 0, "address": "", "logs": ""}
        ended = _end(cluster, timeout_s)
        return {"ended": ended, "address": cluster.address, "logs": str(cluster_folder() / "logs")}


def exports(cluster: LocalCluster) -> list[str]:
    """The shell lines after which ``ray job submit`` and ``ray.init()`` reach this cluster.

    Args:
        cluster: from `up`.
    """
    variables = {
        "RAY_ADDRESS": cluster.address,
        "RAY_API_SERVER_ADDRESS": cluster.dashboard,
        token.MODE_VARIABLE: "token",
        **({token.PATH_VARIABLE: cluster.token} if cluster.token else {}),
        **token.loopback_environment(),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    if not cluster.token:
        lines.append(f"# and {token.TOKEN_VARIABLE}, as in the shell that started the cluster")
    return lines


def _start(cpus: int | None, port: int, dashboard_port: int) -> LocalCluster:
    auth = token.auth_environment()
    notes: list[str] = []
    port = _free_port(port, "the cluster's address", notes)
    dashboard_port = _free_port(dashboard_port, "the dashboard", notes)
    session, mark = _session_folder(), secrets.token_hex(8)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--node-ip-address={LOOPBACK}", f"--port={port}", f"--temp-dir={session}/{_RAYS}"]
    command += [f"--dashboard-host={LOOPBACK}", f"--dashboard-port={dashboard_port}"]
    # Ray's fixed defaults for these (52365, 10002 and up, 10001) would clash with another Ray's.
    command += ["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]
    command += [f"--ray-client-server-port={_free_port(10001, '', [])}"]  # `ray start` always serves it
    command += ["--disable-usage-stats", *([f"--num-cpus={cpus}"] if cpus is not None else [])]
    environment = {name: value for name, value in os.environ.items() if name not in _OTHER_CLUSTERS}
    environment |= auth | token.loopback_environment()
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    # Otherwise Ray spends 30 s on draining its only node before it ends.
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    environment[processes.MARK_VARIABLE] = mark
    log = cluster_folder() / "local.log"
    with log.open("wb") as output:
        output.write("".join(f"{note}\n" for note in notes).encode())
        output.flush()
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the caller's terminal isn't meant for the cluster
        )
    _started.append(process)
    cluster = LocalCluster(
        address=f"{LOOPBACK}:{port}",
        dashboard=f"http://{LOOPBACK}:{dashboard_port}",
        pid=process.pid,
        created=processes.created(process.pid),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        log=str(log),
        cpus=cpus or 0,
        session=session,
        mark=mark,
        token="" if os.environ.get(token.TOKEN_VARIABLE) else auth[token.PATH_VARIABLE],
        notes=tuple(notes),
    )
    write_state(cluster)  # before it is ready: if this command is killed now, `down` still finds it
    return cluster


def _wait_until_ready(cluster: LocalCluster, deadline: float, timeout_s: float) -> LocalCluster:
    while True:
        if not _runs(cluster):
            raise _failed(cluster, "the local cluster ended while it started")
        with suppress(OSError, http.client.HTTPException, LookupError, TypeError, ValueError):
            nodes = dashboard.nodes(cluster.dashboard, cluster.token)
            dashboard.jobs(cluster.dashboard, cluster.token)
            alive = [node for node in nodes if node["state"] == "ALIVE"]
            if alive:  # the address's server knows a node, and the job API answered
                return dataclasses.replace(cluster, cpus=alive[0]["cpus"])
        if time.monotonic() > deadline:
            raise _failed(cluster, f"the local cluster did not answer within {timeout_s:g} s")
        time.sleep(_POLL_S)


def _refuse_exposure(cluster: LocalCluster) -> None:
    open_ports = processes.exposed(processes.belonging(cluster))
    if open_ports:
        raise KoalaError(
            "the cluster listens beyond this machine: " + ", ".join(sorted(open_ports)),
            where=cluster.log,
            mend="unset the RAY_* variables of your shell that name hosts or ports, then start it again",
        )
    try:
        dashboard.get(cluster.dashboard, "/api/jobs/", headers={})
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return
    raise KoalaError(
        "the cluster's job API answers without a token",
        where=cluster.dashboard,
        mend="install the Ray version that koala-ray names in its dependencies",
    )


def _runs(cluster: LocalCluster) -> bool:
    return processes.find_head(cluster) is not None


def _end(cluster: LocalCluster, timeout_s: float) -> int:
    ended, left = processes.end(cluster, timeout_s)
    for process in _started:
        process.poll()  # takes the ended head off the process table if it was our child
    if left:
        raise KoalaError(
            f"{len(left)} processes of the cluster outlived SIGKILL",
            where=", ".join(str(process.pid) for process in left),
            mend="they wait for a device or a network disk; try again when it answers",
        )
    session = Path(cluster.session)
    logs = session / _RAYS / "session_latest" / "logs"
    if logs.is_dir():
        shutil.rmtree(cluster_folder() / "logs", ignore_errors=True)
        shutil.move(logs.resolve(), cluster_folder() / "logs")
    if session.name.startswith(_SESSION_PREFIX):
        shutil.rmtree(session, ignore_errors=True)
    state_file().unlink(missing_ok=True)
    return ended


def _free_port(wanted: int, what: str, notes: list[str]) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            got = int(probe.getsockname()[1])
            if wanted and got != wanted:
                notes.append(f"port {wanted} for {what} is in use: took {got}")
            return got
    raise KoalaError("no TCP port is free on 127.0.0.1", where=what, mend="end what holds them")


def _session_folder() -> str:
    # Not /tmp/ray: there Ray would offer this cluster to every `ray.init()` on the machine.
    session = tempfile.mkdtemp(prefix=_SESSION_PREFIX)
    if len(session) <= _LONGEST_SESSION:
        return session
    os.rmdir(session)
    return tempfile.mkdtemp(prefix=_SESSION_PREFIX, dir="/tmp")


def _failed(cluster: LocalCluster, error: str) -> KoalaError:
    lines = Path(cluster.log).read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(["", *lines[-_LOG_LINES:]])
    return KoalaError(error + tail, where=cluster.log, mend="mend what the log's last lines say, then start it again")


def _unanswered(cluster: LocalCluster, error: Exception) -> KoalaError:
    return KoalaError(
        f"the local cluster runs but does not answer: {error}",
        where=cluster.dashboard,
        mend=f"look into {cluster.log}, or end it: koala-ray cluster down",
    )
