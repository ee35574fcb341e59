"""The same kills for koala-ray, for TRL's trainer and for Ray Train's example: what holds, and what is lost.

One worker or two, a model of 1M parameters, 120 steps, a checkpoint every 10 (Ray Train's example: with each epoch, as
in its guide). A training process is killed at three moments between checkpoints and once in the middle of writing one.
One process of TRL is then started again by a shell loop's hand, two by torchrun; the others start it by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from measure import machine_line, markdown
from preempt_ways import SAVE_STEPS, STEPS

from koala_ray.models.resolve import resolve
from koala_ray.preempt.drill import run_drill
from koala_ray.preempt.fleet import wait_for
from koala_ray.preempt.machines import machines
from koala_ray.preempt.verdict import same_weights

BETWEEN = (25, 55, 95)
"""Steps after which the process is killed, half-way between two checkpoints."""
DURING = 70
"""The step whose checkpoint is interrupted."""
PATIENCE = 300.0
ERROR = re.compile(r"^(\[rank\d+\]: )?\w*Error: ")
"""How a traceback ends, also among what torchrun says."""
WAYS = Path(__file__).with_name("preempt_ways.py")


def lines(log: Path) -> list[dict[str, Any]]:
    """What a way told, whole lines only."""
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def steps_of(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each step as it was last taken: all workers' rows, and their mean loss."""
    last = {(line["step"], line["rank"]): line for line in told}
    steps: dict[int, list[dict[str, Any]]] = {}
    for step, rank in sorted(last):
        steps.setdefault(step, []).append(last[step, rank])
    return [
        {
            "rows": [row for line in each for row in line["rows"]],
            "loss": statistics.mean(line["loss"] for line in each),
        }
        for each in steps.values()
    ]


def last_step(log: Path) -> int:
    """The last step told."""
    return lines(log)[-1]["step"] if log.exists() and log.stat().st_size else 0


class Way:
    """One of the peers, in a folder of its own."""

    def __init__(self, way: str, folder: Path, workers: int) -> None:
        self._workers = workers
        self.way, self.out, self.log = way, folder / "out", folder / "log.jsonl"
        folder.mkdir(parents=True)
        self._errors = folder / "errors.txt"
        self.refused = ""

    def start(self) -> None:
        """Start it, or go on."""
        torchrun = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--max-restarts=10",
            f"--nproc-per-node={self._workers}",
        ]
        line = [sys.executable, *(torchrun if self._by_torchrun else []), str(WAYS)]
        line += [self.way, resolve("tiny"), str(self.out), str(self.log), str(self._workers)]
        with self._errors.open("a") as file:
            self.process = subprocess.Popen(line, stdout=file, stderr=file)

    @property
    def _by_torchrun(self) -> bool:
        return self.way == "trl" and self._workers > 1

    def trainer(self) -> psutil.Process | None:
        """A process that trains, if one is up; of several, the last one."""
        here = psutil.Process(self.process.pid)
        if self.way == "trl" and not self._by_torchrun:
            return here
        found = None
        for one in here.children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                line = " ".join(one.cmdline())
                if "RayTrainWorker" in line or (self._by_torchrun and WAYS.name in line):
                    found = one
        return found

    def kill(self) -> float:
        """Kill what trains, and start it again if that is left to its user."""
        wait_for(self.trainer, PATIENCE, "the process that trains").kill()
        if self.way == "trl" and not self._by_torchrun:
            self.process.wait()
            self.start()
        return time.time()

    def saving(self) -> bool:
        """Whether a checkpoint is half written."""
        if self.way == "trl":
            folder = self.out / f"checkpoint-{DURING}"
            return folder.exists() and not (folder / "trainer_state.json").exists()
        found = sorted(one for one in self.out.glob("example/checkpoint_*") if one.is_dir())
        return len(found) > DURING * 3 // STEPS and not (found[-1] / "state.pt").exists()

    def run(self, kills: bool) -> list[float]:
        """Run it to its end; gives when it was killed."""
        try:
            return self._run(kills)
        finally:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait()

    def _run(self, kills: bool) -> list[float]:
        self.start()
        told = []
        for step in sorted([*BETWEEN, DURING]) if kills else []:
            if step == DURING:
                self._wait(lambda: self.saving() or last_step(self.log) > BETWEEN[-1] - 5, every=0.0002)
                if not self.saving():
                    continue
            else:
                self._wait(lambda step=step: last_step(self.log) >= step)
            told.append(self.kill())
        self._wait(lambda: self.process.poll() == 0)
        return told

    def _wait(self, happened: Callable[[], bool], every: float = 0.05) -> None:
        """Wait; where it has ended with an error meanwhile, do what its user would do."""

        def there() -> bool:
            if self.process.poll():
                self._mend()
            return happened()

        wait_for(there, PATIENCE, f"{self.way} to get further ({self.refused})", every=every)

    def _mend(self) -> None:
        """Remove the checkpoint that it can't read, and start it again."""
        told = self._errors.read_text().strip().splitlines()
        self.refused = next((line for line in reversed(told) if ERROR.search(line)), told[-1])
        half = [folder for folder in self.out.glob("checkpoint-*") if not (folder / "trainer_state.json").exists()]
        if not half:
            raise RuntimeError(self.refused)
        for folder in half:
            shutil.rmtree(folder)
        self.start()


def held(quiet: Way, disturbed: Way, kills: list[float]) -> dict[str, Any]:
    """What the two runs of a peer come to."""
    runs = [steps_of(lines(way.log)) for way in (quiet, disturbed)]
    told = [line for line in lines(disturbed.log) if line["rank"] == 0]
    seen = [row for step in runs[1] for row in step["rows"]]
    should = [row for step in runs[0] for row in step["rows"]]
    resumed = [next((line["time"] for line in told if line["time"] > kill), None) for kill in kills]
    return {
        # Whichever worker has them: what a step learns from is all of them.
        "same_rows": sum(sorted(one["rows"]) == sorted(other["rows"]) for one, other in zip(*runs, strict=True)),
        "lost": sum(max(0, should.count(row) - seen.count(row)) for row in set(should)),
        "repeated": sum(max(0, seen.count(row) - should.count(row)) for row in set(should)),
        "again": len(told) - len(runs[1]),
        "seconds": [after - kill for after, kill in zip(resumed, kills, strict=True) if after],
        "losses": max(abs(one["loss"] - other["loss"]) / one["loss"] for one, other in zip(*runs, strict=True)),
        "weights": same_weights(str(quiet.out / "final"), str(disturbed.out / "final")),
        "refused": disturbed.refused,
        "kills": len(kills),
    }


def koala(folder: Path, workers: int) -> dict[str, Any]:
    """koala-ray's own drill with the same kills."""
    sets = [f"train.max_steps={STEPS}", "train.epochs=8", f"train.checkpoint_every={SAVE_STEPS}"]
    sets += ["train.heldout_rows=0", "tokens.context=256", "report.tensorboard=false"]
    with machines(workers) as here:
        found = run_drill("tiny", str(folder), sets, ["worker", "worker", "upload", "worker"], workers, 0, here)
    return {
        "same_rows": found["steps"] if found["row_ids_equal"] else 0,
        "lost": found["rows_lost"],
        "repeated": found["rows_repeated"],
        "again": found["wasted_steps"],
        "seconds": [kill["seconds_to_resume"] for kill in found["kills"]],
        "losses": found["loss_max_relative_difference"],
        "weights": found["weights_bit_identical"],
        "refused": "",
        "kills": len(found["kills"]),
    }


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", default="koala,trl,ray")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in options.ways.split(","):
            if way == "koala":
                found["koala-ray"] = koala(Path(folder) / way, options.workers)
                continue
            quiet, disturbed = (Way(way, Path(folder) / way / arm, options.workers) for arm in ("quiet", "disturbed"))
            quiet.run(kills=False)
            kills = disturbed.run(kills=True)
            found[{"trl": "TRL", "ray": "Ray Train's example"}[way]] = held(quiet, disturbed, kills)
    print(machine_line("torch", "ray", "trl", "transformers"))
    rows = [
        (
            name,
            one["kills"],
            f"{one['same_rows']} of {STEPS}",
            one["lost"],
            one["repeated"],
            one["again"],
            f"{statistics.median(one['seconds']):.1f} ({min(one['seconds']):.1f}–{max(one['seconds']):.1f})",
            f"{one['losses']:.1e}",
            "identical" if one["weights"] else "other ones",
            one["refused"] or "–",
        )
        for name, one in found.items()
    ]
    head = ("", "kills", "steps with the rows of the undisturbed run", "rows lost", "repeated", "steps taken again")
    print(markdown((*head, "s to the next step", "losses differ by", "final weights", "needed a hand"), rows))


if __name__ == "__main__":
    main()
