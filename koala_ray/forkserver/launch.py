"""What Ray starts in place of ``python`` for a worker: asks the node's fork server for one, or becomes one itself.

Run by its path as ``python -S -E launch.py default_worker.py ARGUMENT …``. It imports little, since it runs for each
worker, and stays as long as the worker does: Ray watches its process until the worker has made itself known.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NoReturn

RAYLET = "--raylet-name="
"""The worker's argument that names its node's raylet, by the path of a socket."""
SUFFIX = ".forks"
"""The server's socket lies beside the raylet's."""
LONGEST_PATH = 107
"""Bytes in the path of a Unix socket."""
SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "server.py")


def main() -> NoReturn:
    """Launch the worker."""
    arguments = sys.argv[1:]
    path = next((one.removeprefix(RAYLET) + SUFFIX for one in arguments if one.startswith(RAYLET)), "")
    if not path or len(os.fsencode(path)) > LONGEST_PATH:
        become(arguments)
    server = connect(path)
    if server is None:
        start_server(path)
        become(arguments)
    accompany(server, arguments)


def become(arguments: list[str]) -> NoReturn:
    """Go on as the worker, in the usual way."""
    os.execv(sys.executable, [sys.executable, *arguments])


def connect(path: str) -> socket.socket | None:
    """The node's fork server, if one is there and belongs to this user: it will be told the environment."""
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(path)
    except OSError:
        return None
    return server if peer(server) == os.getuid() else None


def peer(other: socket.socket) -> int:
    """The user on the other end of a Unix socket."""
    form = "3i"  # process, user, group
    return int(struct.unpack(form, other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form)))[1])


def start_server(path: str) -> None:
    """Start the node's fork server; where another one listens already it ends at once."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    # Forked twice, in a group of its own: Ray ends the children and the process group of a worker together with it.
    os.setpgid(0, 0)
    if os.fork():
        os._exit(0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(os.open(path + ".log", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, 0o600), 2)
    os.execv(sys.executable, [sys.executable, SERVER, path])


def accompany(server: socket.socket, arguments: list[str]) -> NoReturn:
    """Have the worker forked, and end as it does."""
    request = {"argv": arguments, "env": dict(os.environ), "cwd": os.getcwd(), "nice": os.nice(0)}
    body = json.dumps(request).encode()
    told = answers(server)
    try:
        socket.send_fds(server, [struct.pack("!I", len(body))], [0, 1, 2])
        server.sendall(body)
        pid = next(told, 0)
    except OSError:
        pid = 0
    if not pid:
        become(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    for status in told:
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    # The server is gone, the worker lives on.
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(pid)], [], [])
    os._exit(1)


def answers(server: socket.socket) -> Iterator[int]:
    """What a server tells: the worker's process, and how it ended."""
    with contextlib.suppress(OSError):
        for line in server.makefile():
            yield int(line)


if __name__ == "__main__":
    main()
