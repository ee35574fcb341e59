"""One of a drill's two runs: a command in a process of its own, and what it tells."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import IO, Any

from koala_ray.errors import KoalaError


@dataclass
class Arm:
    """A run of the drill."""

    command: list[str]
    """``koala-ray train`` or a job that does the same, with ``--json``."""
    env: dict[str, str]
    said: list[tuple[float, str]] = field(default_factory=list)
    """What it told on the terminal, with the time."""
    printed: list[tuple[float, str]] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    _readers: list[threading.Thread] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        """Start the command; a second time it goes on."""
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, env=self.env, stdout=pipe, stderr=pipe, text=True)
        streams = ((self.process.stderr, self.said), (self.process.stdout, self.printed))
        self._readers = [threading.Thread(target=_collect, args=pair, daemon=True) for pair in streams]
        for reader in self._readers:
            reader.start()

    def finish(self, seconds: float) -> None:
        """Wait for its end.

        Raises:
            KoalaError: it failed.
        """
        assert self.process
        self.process.wait(seconds)
        for reader in self._readers:
            reader.join()
        told = [line for _, line in self.printed if line.startswith("{")]
        if self.process.returncode or not told:
            raise KoalaError(
                f"the run ended with {self.process.returncode}: {told[-1] if told else 'without a word'}",
                where=" ".join(self.command),
                mend=f"its last lines: {self.last_words()}",
            )
        self.figures = json.loads(told[-1])

    def kill(self) -> None:
        """Kill the process that drives the run."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def last_words(self) -> str:
        """The last lines that it told."""
        return " | ".join(line for _, line in [*self.said[-5:], *self.printed[-1:]])

    @property
    def alive(self) -> bool:
        """Whether the command runs."""
        return self.process is not None and self.process.poll() is None


def _collect(stream: IO[str], lines: list[tuple[float, str]]) -> None:
    for line in stream:
        lines.append((time.time(), line.rstrip()))
