"""What a drill does on a machine of a cluster that it didn't start: an actor there. It needs no rights but Ray's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil


class Hand:
    """Sits on one node of the cluster."""

    def __init__(self) -> None:
        import ray

        self._raylet = int(os.environ["RAY_RAYLET_PID"])
        node: Any = ray._private.worker.global_worker.node
        # Among Ray's own files, with which it goes.
        self._folder = Path(tempfile.mkdtemp(prefix="koala-drill-", dir=node.get_session_dir_path()))
        self._agent: subprocess.Popen[bytes] | None = None

    def send(self, pid: int, number: int) -> None:
        """Send a process of this machine a signal, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def start_agent(self, address: str, node_id: str) -> None:
        """Start the spot-notice agent of this node."""
        self._agent = subprocess.Popen(
            agent_command(address, node_id, self._file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def give_notice(self, seconds: float) -> None:
        """Let the agent find a notice."""
        self._file.write_text(str(seconds))

    def wait_for_agent(self, seconds: float) -> bool:
        """Wait until the agent has told Ray; whether it has."""
        assert self._agent
        try:
            self._agent.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill_agent(self) -> None:
        """End the agent."""
        assert self._agent
        self._agent.kill()
        self._agent.wait()

    def switch_off(self, address: str, key: str, rejoin: list[str]) -> None:
        """Kill all of this node, this actor too; a process that is left behind starts Ray again when it is told to.

        Args:
            address: the control store's.
            key: in the control store, whose appearance calls the node back.
            rejoin: the command line that starts Ray again.
        """
        # As the node's Ray was started, not as this actor was: with its token and its switches.
        environment = psutil.Process(self._raylet).environ()
        command = [sys.executable, "-m", "koala_ray.preempt.power", str(self._raylet), address, key, *rejoin]
        with open(self._folder / "power.log", "wb") as log:
            subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        # It kills this process as well; nothing may be answered before that.
        signal.pause()

    @property
    def _file(self) -> Path:
        return self._folder / "notice"


def agent_command(address: str, node_id: str, file: Path) -> list[str]:
    """The command line of the real spot-notice agent that takes a file's appearance for a notice."""
    command = [sys.executable, "-m", "koala_ray", "spot-agent", "--cloud", "none", "--file", str(file)]
    return [*command, "--every", "0.5", "--address", address, "--node-id", node_id]
