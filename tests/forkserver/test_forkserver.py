"""Workers forked by the real server, asked for by the real launcher; without Ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from koala_ray.forkserver.environment import JOB, LAUNCHER, SWITCH, runtime_environment
from koala_ray.forkserver.launch import SUFFIX
from koala_ray.preempt.fleet import wait_for
from koala_ray.preempt.machines import processes_of

PATIENCE = 60.0
WHOLE = """
    import json, os, random, sys
    told = {"pid": os.getpid(), "parent": os.getppid(), "argv": sys.argv, "cwd": os.getcwd(), "nice": os.nice(0)}
    told |= {"env": dict(os.environ), "random": random.random(), "name": __name__, "path": sys.path[0]}
    told |= {"group": os.getpgid(0)} | {name: name in sys.modules for name in ("ray", "torch", "deepspeed")}
    if "numpy" in sys.modules:
        told["numpy"] = sys.modules["numpy"].random.random()
    if "id" in os.environ:
        import ray
        told["id"] = ray.ObjectRef.from_random().hex()
    print(json.dumps(told), flush=True)
    print("and this is an error", file=sys.stderr)
    sys.exit(7)
"""
LONG = """
    import signal, sys, time
    print("here", flush=True)
    signal.pause()
"""


class Node:
    """A raylet that is none, and what is launched on its node."""

    def __init__(self, folder: Path) -> None:
        self.raylet = subprocess.Popen(["sleep", "600"])
        self.name = str(folder / "raylet")
        self.socket = self.name + SUFFIX
        self.folder = folder
        self.env = {**os.environ, "RAY_RAYLET_PID": str(self.raylet.pid)}

    def launch(self, program: str, **options: Any) -> subprocess.Popen[str]:
        file = self.folder / f"worker-{abs(hash(program))}.py"
        file.write_text(textwrap.dedent(program))
        line = [sys.executable, "-S", "-E", str(LAUNCHER), str(file), f"--raylet-name={self.name}", "more"]
        pipe = subprocess.PIPE
        return subprocess.Popen(line, **{"env": self.env, "stdout": pipe, "stderr": pipe, "text": True, **options})

    def servers(self) -> list[psutil.Process]:
        """The node's fork servers."""
        found = [process for process in processes_of(self.raylet.pid) if process.pid != self.raylet.pid]
        return [one for one in found if one.ppid() == 1]

    def close(self) -> None:
        self.raylet.kill()
        self.raylet.wait()
        for process in processes_of(self.raylet.pid):
            process.kill()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose server has imported all."""
    node = Node(tmp_path_factory.mktemp("n"))
    try:
        assert node.launch("print('first')").wait(PATIENCE) == 0
        # It listens while it imports; DeepSpeed comes last.
        wait_for(lambda: told(node.launch(WHOLE))["deepspeed"], PATIENCE, "the server", every=0.5)
        yield node
    finally:
        node.close()


def listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(path) == 0


def told(worker: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = worker.communicate(timeout=PATIENCE)
    return dict(json.loads(out))


def test_a_fork_is_what_a_fresh_process_would_be(warm, tmp_path):
    env = {**warm.env, "OF_ITS_OWN": "yes"}
    program = warm.launch(WHOLE, env=env, cwd=tmp_path, preexec_fn=lambda: os.nice(3))
    found = told(program)
    fresh = subprocess.run(
        [sys.executable, found["argv"][0], *found["argv"][1:]], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    other = json.loads(fresh.stdout)
    for key in ("argv", "cwd", "env", "name", "path"):
        assert found[key] == other[key], key
    assert (found["torch"], found["ray"], other["torch"]) == (True, False, False)
    assert found["nice"] == os.nice(0) + 3
    assert found["group"] == found["pid"]
    assert program.returncode == fresh.returncode == 7


def test_forks_share_no_random_numbers(warm):
    found = [told(warm.launch(WHOLE, env={**warm.env, "id": "Ray's, too"})) for _ in range(3)]
    for key in ("pid", "random", "numpy", "id"):
        assert len({one[key] for one in found}) == 3, key
    assert len({one["parent"] for one in found}) == 1


def test_a_worker_that_ends_by_a_signal_ends_its_launcher(warm):
    launcher = warm.launch("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert launcher.wait(PATIENCE) == (-signal.SIGKILL & 0xFF)


def test_a_launcher_passes_on_what_it_is_told(warm):
    launcher = warm.launch(LONG)
    assert launcher.stdout.readline() == "here\n"
    launcher.terminate()
    assert launcher.wait(PATIENCE) == (-signal.SIGTERM & 0xFF)


def test_a_launcher_that_is_killed_takes_its_worker_along(warm):
    launcher = warm.launch("import os\nprint(os.getpid(), flush=True)\n" + textwrap.dedent(LONG))
    worker = psutil.Process(int(launcher.stdout.readline()))
    launcher.kill()
    worker.wait(PATIENCE)


def test_a_worker_tidies_up_when_it_ends(warm):
    launcher = warm.launch("import atexit, sys\natexit.register(print, 'tidied')\nsys.exit('enough')")
    assert launcher.communicate(timeout=PATIENCE) == ("tidied\n", "enough\n")
    assert launcher.returncode == 1


def test_an_error_is_told_as_python_does(warm):
    launcher = warm.launch("raise KeyError('what')")
    _, error = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 1
    assert error.splitlines()[-1] == "KeyError: 'what'"


def test_one_that_asks_for_nonsense_does_no_harm(warm):
    for body in (b"", b"\x00\x00\x00\x05hel", struct.pack("!I", 3) + b"{]!"):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(warm.socket)
            one.sendall(body)
    assert told(warm.launch(WHOLE))["deepspeed"]


def test_a_server_that_dies_leaves_its_workers_and_is_replaced(tmp_path):
    node = Node(tmp_path)
    try:
        node.launch("pass").wait(PATIENCE)
        wait_for(lambda: listens(node.socket), PATIENCE, "the node's server")
        worker = node.launch(LONG)
        assert worker.stdout.readline() == "here\n"
        (server,) = node.servers()
        server.kill()
        server.wait(PATIENCE)
        assert worker.poll() is None
        found = told(node.launch(WHOLE))
        assert found["env"] == node.env, "it became the worker itself"
        wait_for(lambda: listens(node.socket), PATIENCE, "another server")
        assert node.servers()[0].pid != server.pid
        worker.kill()
    finally:
        node.close()


def test_a_server_ends_with_its_raylet(tmp_path):
    node = Node(tmp_path)
    try:
        starts = [node.launch("pass") for _ in range(3)]
        assert [start.wait(PATIENCE) for start in starts] == [0, 0, 0]
        wait_for(lambda: listens(node.socket), PATIENCE, "the node's server")
        wait_for(lambda: len(node.servers()) == 1, PATIENCE, "the others' end")
        (server,) = node.servers()
        node.raylet.kill()
        node.raylet.wait()
        server.wait(PATIENCE)
        assert not Path(node.socket).exists()
    finally:
        node.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_another_users_server_is_not_told_the_environment(tmp_path):
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:-1]:
        if parent.stat().st_uid == os.getuid() and str(parent) != "/tmp":
            parent.chmod(0o755)
    node = Node(tmp_path)
    listener = """
        import os, socket, sys
        os.setuid(65534)
        one = socket.socket(socket.AF_UNIX)
        one.bind(sys.argv[1]); one.listen()
        os.chmod(sys.argv[1], 0o777)
        print("up", flush=True)
        other, _ = one.accept()
        print(len(other.recv(100)), flush=True)
    """
    stranger = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(listener), node.socket], stdout=subprocess.PIPE, text=True
    )
    try:
        assert stranger.stdout.readline() == "up\n"
        assert told(node.launch(WHOLE))["env"] == node.env
        assert stranger.stdout.readline() == "0\n"
    finally:
        stranger.kill()
        node.close()


def test_without_a_raylet_or_with_too_long_a_path_it_becomes_the_worker(tmp_path):
    program = tmp_path / "worker.py"
    program.write_text("import sys; print(sys.argv[1:])")
    for more in (["x"], [f"--raylet-name={'/x' * 60}"]):
        line = [sys.executable, "-S", "-E", str(LAUNCHER), str(program), *more]
        assert subprocess.run(line, capture_output=True, text=True).stdout == f"{more}\n"


def test_what_ray_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_RUNTIME_ENV_HOOK", raising=False)
    found = runtime_environment()["py_executable"]
    assert str(LAUNCHER) in found
    program = tmp_path / "w.py"
    program.write_text("import sys; print(sys.argv[1:], sys.executable)")
    # As Ray does: in a shell, the command's words after it.
    ran = subprocess.run(["bash", "-c", f"exec {found} {program} 'a b'"], capture_output=True, text=True)
    assert ran.stdout == f"['a b'] {sys.executable}\n"


def test_a_node_that_has_nothing_of_it_starts_workers_as_ray_does(tmp_path):
    program = tmp_path / "w.py"
    program.write_text("import sys; print(sys.argv[1:])")
    found = runtime_environment(launcher=tmp_path / "nowhere.py")["py_executable"]
    # The raylet's command line names the interpreter; this one is its stand-in.
    raylet = "import os, subprocess; subprocess.run(['bash', '-c', os.environ['LINE']])"
    line = [sys.executable, "-c", raylet, f"--python_worker_command={sys.executable} setup_worker.py"]
    env = {**os.environ, "LINE": f"exec {found} {program} 'a b'"}
    assert subprocess.run(line, env=env, capture_output=True, text=True).stdout == "['a b']\n"


@pytest.mark.parametrize(
    ("name", "value"), [(SWITCH, "0"), ("RAY_RUNTIME_ENV_HOOK", "x"), (JOB, '{"runtime_env": {"py_executable": "uv"}}')]
)
def test_when_it_keeps_away(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert runtime_environment() == {}
