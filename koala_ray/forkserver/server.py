"""A node's fork server: imports once what workers import, and forks itself for each worker that Ray launches.

Started by :mod:`koala_ray.forkserver.launch`; ends with the node's raylet. A fork is what a fresh process would be: its
arguments, environment, folder, files, niceness and random numbers are its own.

Two things don't outlive a fork. Ray keeps the job's id and the seed of its own ids where only an import sets them, so
each worker imports Ray for itself. And CUDA can't be used in a fork of a process that has opened a GPU. Should an
import have done the one or the other after all, the server ends, and workers start in the usual way.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import struct
import sys
from typing import Any

from launch import peer

MODULES = (
    "numpy", "pyarrow.dataset", "pandas", "pydantic", "jsonschema", "google.protobuf.message", "requests", "fsspec",
    "torch", "sympy", "torch.distributed.tensor", "torch._dynamo", "torch.export", "safetensors.torch", "transformers",
    "transformers.conversion_mapping", "transformers.models.llama.modeling_llama",
)  # fmt: skip
"""In this order; small steps, since nobody is answered during one. Nothing of koala_ray, whose code may change."""
WITHOUT_GPU = ("deepspeed",)
"""Looks for GPUs when it is imported."""
NEVER = "ray"
EVERY_SECONDS = 1.0
"""How often the server looks whether its raylet lives."""
PATIENCE = 5.0
"""Seconds for a launcher to say what it wants."""


class Forked(BaseException):
    """Raised in a fork, so that it leaves the server's doings: what it is to become."""

    def __init__(self, request: dict[str, Any], files: list[int]) -> None:
        self.request, self.files = request, files


class Server:
    """Listens, forks, and tells each launcher how its worker ended."""

    def __init__(self, path: str, raylet: int) -> None:
        """Begin to listen.

        Args:
            path: of the socket.
            raylet: the process that it serves.

        Raises:
            BlockingIOError: another server does.
        """
        self._raylet = raylet
        self._lock = os.open(path + ".lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._launchers: dict[int, socket.socket] = {}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._ended, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._bell.fileno())

    def serve(self, seconds: float) -> bool:
        """Answer what comes, wait for so many seconds at most; whether something came.

        Raises:
            Forked: in a fork.
        """
        ready, _, _ = select.select([self._listener, self._ended, *self._launchers.values()], [], [], seconds)
        for one in ready:
            if one is self._listener:
                self._fork()
            elif one is self._ended:
                self._ended.recv(4096)
                self._reap()
            else:
                self._stop(one)
        return bool(ready)

    @property
    def alone(self) -> bool:
        """Whether the raylet is gone."""
        return not os.path.exists(f"/proc/{self._raylet}")

    def _fork(self) -> None:
        launcher, _ = self._listener.accept()
        try:
            request, files = _request(launcher)
        except (OSError, ValueError, struct.error):
            launcher.close()
            return
        pid = os.fork()
        if pid == 0:
            launcher.close()
            self._close()
            raise Forked(request, files)
        for file in files:
            os.close(file)
        self._launchers[pid] = launcher
        self._tell(pid, pid)

    def _close(self) -> None:
        """Close what is the server's, in a fork."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (self._listener, self._ended, self._bell, *self._launchers.values()):
            one.close()
        os.close(self._lock)  # else the worker would hold it once the server is gone

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._tell(*ended)
                self._forget(ended[0])

    def _stop(self, launcher: socket.socket) -> None:
        """A launcher was killed: that was meant for its worker."""
        pid = next((pid for pid, one in self._launchers.items() if one is launcher), None)
        if pid is not None:
            self._forget(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _forget(self, pid: int) -> None:
        if launcher := self._launchers.pop(pid, None):
            launcher.close()

    def _tell(self, pid: int, value: int) -> None:
        with contextlib.suppress(OSError, KeyError):
            self._launchers[pid].sendall(f"{value}\n".encode())


def _request(launcher: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a launcher asks for, and its three files."""
    if peer(launcher) != os.getuid():
        raise ValueError("another user")
    launcher.settimeout(PATIENCE)
    header, files, _, _ = socket.recv_fds(launcher, 4, 3)
    try:
        (size,) = struct.unpack("!I", header)
        body = bytearray()
        while len(body) < size:
            if not (more := launcher.recv(size - len(body))):
                raise ValueError("it went away")
            body += more
        request = json.loads(body)
        if len(files) != 3:
            raise ValueError("standard files are missing")
    except Exception:
        for file in files:
            os.close(file)
        raise
    launcher.settimeout(None)
    return request, files


def opened_gpu() -> bool:
    """Whether this process has opened a GPU."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{number}").startswith("/dev/nvidia"):
                return True
    return False


def become(request: dict[str, Any], files: list[int]) -> None:
    """Turn a fork into the worker."""
    os.setpgid(0, 0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    os.nice(request["nice"] - os.nice(0))
    sys.argv = request["argv"]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    gc.enable()
    runpy.run_path(sys.argv[0], run_name="__main__")


def serve(path: str) -> None:
    """Import, and serve meanwhile and ever after.

    Raises:
        Forked: in a fork.
    """
    try:
        server = Server(path, int(os.environ["RAY_RAYLET_PID"]))
    except BlockingIOError:
        return
    modules = list(MODULES)
    if not os.path.exists("/proc/driver/nvidia"):
        os.environ["DS_ACCELERATOR"] = "cpu"
        modules += WITHOUT_GPU
    gc.disable()
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
        if NEVER in sys.modules or opened_gpu():
            break
        while server.serve(0):
            pass
    else:
        gc.freeze()  # else the first collection in a fork would copy every page
        while not server.alone:
            server.serve(EVERY_SECONDS)
    with contextlib.suppress(FileNotFoundError):  # Ray removes its folders
        os.unlink(path)


def main() -> None:
    """Serve; in a fork, be the worker."""
    path = sys.argv.pop()
    try:
        serve(path)
        return
    except Forked as fork:
        worker = fork
    become(worker.request, worker.files)


if __name__ == "__main__":
    main()
