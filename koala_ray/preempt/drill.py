"""The drill: train once undisturbed and once while machines vanish, and hold the two runs against each other.

Everything is real: a Ray of several nodes on this machine or a user's cluster, the command that users run, SIGKILL,
the spot-notice agent.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from koala_ray import storage
from koala_ray.checkpoint.manifest import CHECKPOINTS, MANIFEST, committed_steps
from koala_ray.errors import KoalaError
from koala_ray.preempt.arm import Arm
from koala_ray.preempt.fleet import Fleet, Worker, wait_for
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

    def __init__(self, fleet: Fleet, arm: Arm, out: str, count: int, seed: int, patience: float = PATIENCE) -> None:
        """Prepare it.

        Args:
            fleet: the machines that the run uses, and that vanish.
            arm: the run.
            out: the folder or URI that it writes to.
            count: its workers.
            seed: chooses the victims.
            patience: seconds to wait for the run to get anywhere.
        """
        self._fleet, self._arm, self._out = fleet, arm, out
        self._count, self._patience = count, patience
        self._random = random.Random(seed)
        self.kills: list[Kill] = []

    def run(self, kinds: Sequence[str], steps: int) -> None:
        """Start the run, disturb it once in each way, spread over its steps, and wait for its end."""
        self._start()
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
        self._arm.finish(self._patience)

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

        wait_for(there, self._patience, f"a checkpoint of step {steps}")

    def _workers(self) -> Sequence[Worker]:
        return wait_for(self._fleet.train_workers, self._patience, "a train worker")

    def _worker(self, kill: Kill) -> None:
        self._random.choice(self._workers()).kill()

    def _workers_all(self, kill: Kill) -> None:
        self._kill(self._workers())

    @staticmethod
    def _kill(workers: Sequence[Worker]) -> None:
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()

    def _hang(self, kill: Kill) -> None:
        self._random.choice(self._workers()).suspend()

    def _node(self, kill: Kill) -> None:
        node = self._random.choice(wait_for(self._fleet.working_nodes, self._patience, "a train worker"))
        self._fleet.lose(node)
        self._fleet.add()

    def _driver(self, kill: Kill) -> None:
        self._arm.kill()
        self._start()

    def _start(self) -> None:
        self._arm.start()
        assert self._arm.process
        self._fleet.driver = self._arm.process.pid

    def _upload(self, kill: Kill) -> None:
        """Kill all workers while a checkpoint is being written: its folder is there, its manifest isn't."""
        workers = self._workers()
        known = self._checkpoints()

        def begun() -> str:
            return next(iter(self._checkpoints() - known), "")

        folder = wait_for(begun, self._patience, "a checkpoint that is being written", every=0.0005)
        self._kill(workers)
        kill.time = time.time()
        committed = storage.exists(storage.join(folder, MANIFEST))
        kill.detail = f"{folder.rsplit('/', 1)[-1]} was {'committed' if committed else 'not committed'}"

    def _checkpoints(self) -> set[str]:
        """The folders of checkpoints, those that are being written too."""
        runs = [name for name in storage.list_folders(self._out) if name.startswith("train-")]
        folders = [storage.join(self._out, run, CHECKPOINTS) for run in runs]
        return {storage.join(folder, name) for folder in folders for name in storage.list_folders(folder)}

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
        nodes = wait_for(self._fleet.working_nodes, self._patience, "a train worker")
        return self._random.sample(nodes, min(count, len(nodes)))

    def _announce(self, kill: Kill, nodes: Sequence[Any], seconds: float) -> None:
        """The real agents of some nodes take a file's appearance for a notice; then the nodes go."""
        agents = [self._fleet.start_agent(node) for node in nodes]
        for _ in nodes:
            self._fleet.add()
        kill.time = time.time()
        for agent in agents:
            agent.give_notice(seconds)
        for agent in agents:
            agent.wait(self._patience)
        left = max(0.0, kill.time + seconds - time.time())
        with suppress(TimeoutError):
            wait_for(lambda: not any(map(self._fleet.train_workers, nodes)), left, "the workers to leave")
            kill.detail = f"the workers left after {time.time() - kill.time:.1f} s"
        for node in nodes:
            self._fleet.lose(node)

    def _agent(self, kill: Kill) -> None:
        """The agent of a node dies, so nobody hears of the notice; then the node goes."""
        (node,) = self._some_nodes(1)
        agent = self._fleet.start_agent(node)
        agent.kill()
        agent.give_notice(NOTICE_SECONDS)
        self._fleet.add()
        kill.time = time.time()
        self._fleet.lose(node)

    def _shrink(self, kill: Kill) -> None:
        """Lose a node for good, go on with fewer workers, and with all again once a new node has come."""
        full = self._count
        self._wait_for_workers(full)  # an earlier kill may have left fewer
        kill.time, kill.safe = time.time(), self.safe()
        self._fleet.lose(self._random.choice(self._fleet.working_nodes()))
        self._wait_for_steps(kill.safe + 1)
        self._wait_for_workers(full - 1)
        kill.detail = f"{full} workers, then {len(self._workers())}"
        self._fleet.add()
        self._wait_for_workers(full)
        kill.detail += f", then {full}"

    def _wait_for_workers(self, count: int) -> None:
        wait_for(lambda: len(self._fleet.train_workers()) == count, self._patience, f"{count} workers", every=0.2)


ARMS = ("undisturbed", "disturbed")
"""Also their folders' names."""
SPARING = ("worker", "workers_all", "hang", "driver", "upload")
"""What only this run feels."""
TAKING = ("node", "notice", "notice_short", "notice_two", "agent", "shrink")
"""What takes a node from the cluster, with everything on it."""
KINDS = (*SPARING, *TAKING)


def run_drill(
    recipe: str,
    out: str,
    settings: Sequence[str],
    kinds: Sequence[str],
    count: int,
    seed: int,
    fleet: Fleet,
    patience: float = PATIENCE,
) -> dict[str, Any]:
    """Both arms and what came of them, as ``koala-ray drill --json`` prints it.

    Args:
        recipe: its name or file.
        out: a folder or URI for both arms, which all machines see.
        settings: ``KEY=VALUE`` as for ``--set``.
        kinds: of :data:`KINDS`, in their order.
        count: workers.
        seed: chooses the victims.
        fleet: as many machines as the workers need, at least.
        patience: seconds to wait for a run to get anywhere.

    Raises:
        KoalaError: an arm failed, or the fleet has no node for a kill that takes one.
    """
    fleet.check(takes_nodes=any(kind in TAKING for kind in kinds))
    env = {**os.environ, "RAY_ADDRESS": fleet.address}
    elastic = "shrink" in kinds
    chosen = [f"train.workers={[1, count] if elastic else count}", *settings]
    arms = {name: storage.join(out, name) for name in ARMS}
    for arm in arms.values():  # and nothing else that may lie in that folder
        storage.remove_tree(arm)
    arguments = [part for setting in chosen for part in ("--set", setting)]
    command = [sys.executable, "-m", "koala_ray", "train", recipe, "--json", *arguments, "--out"]
    quiet = Arm([*command, arms["undisturbed"]], env)
    say("drill     the undisturbed arm")
    quiet.start()
    quiet.finish(patience * 4)
    # The same rows for both: what was prepared is copied, only training is done again.
    for folder in storage.list_folders(arms["undisturbed"]):
        if not folder.startswith("train-"):
            storage.copy_tree(storage.join(arms["undisturbed"], folder), storage.join(arms["disturbed"], folder))
    disturbed = Arm([*command, arms["disturbed"]], env)
    drill = Drill(fleet, disturbed, arms["disturbed"], count, seed, patience)
    drill.run(kinds, quiet.figures["steps"])
    from koala_ray.preempt.verdict import verdict

    return verdict(quiet.figures, disturbed.figures, drill.kills, disturbed.said)
