"""The drill: train once undisturbed and once while machines vanish, and hold the two runs against each other.

Everything is real: a Ray of several nodes on this machine, the command that users run, SIGKILL, the spot-notice agent.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from koala_ray import storage
from koala_ray.checkpoint.manifest import CHECKPOINTS, MANIFEST, committed_steps
from koala_ray.errors import KoalaError
from koala_ray.preempt.machines import Machines, wait_for
from koala_ray.progress import say

NOTICE_SECONDS = 20.0
"""The notice that is given; GCP gives 30, AWS 120."""
SHORT_SECONDS = 0.5
"""A notice that is too short for anything."""
PAUSE_SECONDS = 1.5
"""A disturbance comes at some moment within so many seconds after a checkpoint."""
PATIENCE = 300.0
"""Seconds to wait for a run to get anywhere."""


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


@dataclass
class Kill:
    """One disturbance."""

    kind: str
    time: float
    """Seconds since 1970."""
    safe: int
    """Steps that were in a checkpoint."""
    detail: str = ""


class Drill:
    """Disturbs one run."""

    def __init__(self, machines: Machines, arm: Arm, out: str, count: int, seed: int, folder: str) -> None:
        """Prepare it.

        Args:
            machines: that the run uses, and that vanish.
            arm: the run.
            out: the folder or URI that it writes to.
            count: its workers.
            seed: chooses the victims.
            folder: a local one for the notices.
        """
        self._machines, self._arm, self._out, self._folder = machines, arm, out, folder
        self._count = count
        self._random = random.Random(seed)
        self.kills: list[Kill] = []

    def run(self, kinds: Sequence[str], steps: int) -> None:
        """Start the run, disturb it once in each way, spread over its steps, and wait for its end."""
        self._arm.start()
        for place, kind in enumerate(kinds):
            milestone = max(1, steps * (place + 1) // (len(kinds) + 2))
            self._wait_for_steps(milestone)
            time.sleep(self._random.uniform(0, PAUSE_SECONDS))  # at any moment, and not just after a checkpoint
            kill = Kill(kind, time.time(), self.safe())
            say(f"drill     {kind}: after step {kill.safe} or later")
            self.kills.append(kill)
            disturb: Callable[[Kill], None] = getattr(self, f"_{kind}")
            disturb(kill)
            self._wait_for_steps(kill.safe + 1)
        self._arm.finish(PATIENCE)

    def safe(self) -> int:
        """Steps that are in a checkpoint."""
        runs = {file.relative.partition("/")[0] for file in storage.list_files(self._out, ["train-*/attempts.jsonl"])}
        return max((committed_steps(storage.join(self._out, run)) for run in runs), default=0)

    def _wait_for_steps(self, steps: int) -> None:
        def there() -> bool:
            if not self._arm.alive:
                raise KoalaError(
                    f"the run ended before it was disturbed ({self.safe()} steps are saved)",
                    where="--set train.max_steps",
                    mend=f"more steps, or fewer kills; its last lines: {self._arm.last_words()}",
                )
            return self.safe() >= steps

        wait_for(there, PATIENCE, f"a checkpoint of step {steps}")

    def _workers(self) -> list[psutil.Process]:
        found: list[psutil.Process] = wait_for(self._machines.train_workers, PATIENCE, "a train worker")
        return found

    def _worker(self, kill: Kill) -> None:
        self._random.choice(self._workers()).kill()

    def _workers_all(self, kill: Kill) -> None:
        for worker in self._workers():
            with suppress(psutil.NoSuchProcess):
                worker.kill()

    def _hang(self, kill: Kill) -> None:
        self._random.choice(self._workers()).suspend()

    def _node(self, kill: Kill) -> None:
        node = self._random.choice(wait_for(self._machines.working_nodes, PATIENCE, "a train worker"))
        self._machines.lose(node)
        self._machines.add()

    def _driver(self, kill: Kill) -> None:
        self._arm.kill()
        self._arm.start()

    def _upload(self, kill: Kill) -> None:
        """Kill all workers while a checkpoint is being written: its folder is there, its manifest isn't."""
        folders = [folder / CHECKPOINTS for folder in Path(self._out).glob("train-*")]
        workers = self._workers()
        known = {one for folder in folders for one in folder.glob("step-*")}

        def begun() -> Path | None:
            return next((one for folder in folders for one in folder.glob("step-*") if one not in known), None)

        folder: Path = wait_for(begun, PATIENCE, "a checkpoint that is being written", every=0.0005)
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        kill.time = time.time()
        kill.detail = f"{folder.name} was {'committed' if (folder / MANIFEST).exists() else 'not committed'}"

    def _notice(self, kill: Kill) -> None:
        """A working node is announced to go, in time."""
        self._announce(kill, self._some_nodes(1), NOTICE_SECONDS)

    def _notice_short(self, kill: Kill) -> None:
        """The notice comes too late for a checkpoint."""
        self._announce(kill, self._some_nodes(1), SHORT_SECONDS)

    def _notice_two(self, kill: Kill) -> None:
        """Two nodes are announced to go at once."""
        self._announce(kill, self._some_nodes(2), NOTICE_SECONDS)

    def _some_nodes(self, count: int) -> list[Any]:
        """So many of the working nodes, or all if there are fewer."""
        nodes = wait_for(self._machines.working_nodes, PATIENCE, "a train worker")
        return self._random.sample(nodes, min(count, len(nodes)))

    def _announce(self, kill: Kill, nodes: Sequence[Any], seconds: float) -> None:
        """The real agents of some nodes take a file's appearance for a notice; then the nodes go."""
        files = [Path(self._folder) / f"notice-{node.node_id[:8]}" for node in nodes]
        agents = [self._machines.start_agent(node, file) for node, file in zip(nodes, files, strict=True)]
        for _ in nodes:
            self._machines.add()
        kill.time = time.time()
        for file in files:
            file.write_text(str(seconds))
        for agent in agents:
            agent.wait(PATIENCE)
        left = max(0.0, kill.time + seconds - time.time())
        with suppress(TimeoutError):
            wait_for(lambda: not any(map(self._machines.train_workers, nodes)), left, "the workers to leave")
            kill.detail = f"the workers left after {time.time() - kill.time:.1f} s"
        for node in nodes:
            self._machines.lose(node)

    def _agent(self, kill: Kill) -> None:
        """The agent of a node dies, so nobody hears of the notice; then the node goes."""
        (node,) = self._some_nodes(1)
        file = Path(self._folder) / f"notice-{node.node_id[:8]}"
        agent = self._machines.start_agent(node, file)
        agent.kill()
        agent.wait()
        file.write_text(str(NOTICE_SECONDS))
        self._machines.add()
        kill.time = time.time()
        self._machines.lose(node)

    def _shrink(self, kill: Kill) -> None:
        """Lose a node for good, go on with fewer workers, and with all again once a new node has come."""
        full = self._count
        self._wait_for_workers(full)  # an earlier kill may have left fewer
        kill.time, kill.safe = time.time(), self.safe()
        self._machines.lose(self._random.choice(self._machines.working_nodes()))
        self._wait_for_steps(kill.safe + 1)
        self._wait_for_workers(full - 1)
        kill.detail = f"{full} workers, then {len(self._workers())}"
        self._machines.add()
        self._wait_for_workers(full)
        kill.detail += f", then {full}"

    def _wait_for_workers(self, count: int) -> None:
        wait_for(lambda: len(self._machines.train_workers()) == count, PATIENCE, f"{count} workers", every=0.2)


ARMS = ("undisturbed", "disturbed")
"""Also their folders' names."""
KINDS = (
    "worker", "workers_all", "hang", "node", "driver", "upload", "notice", "notice_short", "notice_two", "agent",
    "shrink",
)  # fmt: skip


def run_drill(
    recipe: str,
    out: str,
    settings: Sequence[str],
    kinds: Sequence[str],
    count: int,
    seed: int,
    machines: Machines,
) -> dict[str, Any]:
    """Both arms and what came of them, as ``koala-ray drill --json`` prints it.

    Args:
        recipe: its name or file.
        out: a local folder for both arms.
        settings: ``KEY=VALUE`` as for ``--set``.
        kinds: of :data:`KINDS`, in their order.
        count: workers.
        seed: chooses the victims.
        machines: as many as the workers need, at least.

    Raises:
        KoalaError: an arm failed.
    """
    env = {**os.environ, "RAY_ADDRESS": machines.address}
    elastic = "shrink" in kinds
    chosen = [f"train.workers={[1, count] if elastic else count}", *settings]
    arms = {name: f"{out}/{name}" for name in ARMS}
    arguments = [part for setting in chosen for part in ("--set", setting)]
    command = [sys.executable, "-m", "koala_ray", "train", recipe, "--json", *arguments, "--out"]
    quiet = Arm([*command, arms["undisturbed"]], env)
    say("drill     the undisturbed arm")
    quiet.start()
    quiet.finish(PATIENCE * 4)
    # The same rows for both: what was prepared is copied, only training is done again.
    for folder in Path(arms["undisturbed"]).iterdir():
        if folder.is_dir() and not folder.name.startswith("train-"):
            storage.copy_from_local(folder, f"{arms['disturbed']}/{folder.name}")
    disturbed = Arm([*command, arms["disturbed"]], env)
    drill = Drill(machines, disturbed, arms["disturbed"], count, seed, out)
    drill.run(kinds, quiet.figures["steps"])
    from koala_ray.preempt.verdict import verdict

    return verdict(quiet.figures, disturbed.figures, drill.kills, disturbed.said)
