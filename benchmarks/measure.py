"""What the benchmarks share: the machine in a line, medians, tables, and the cost of a whole tree of processes."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from koala_ray.preempt.machines import processes_of

PROC = Path("/proc")
MARK = "KOALA_RAY_BENCH"
"""The environment variable by which the processes of a measured command are found."""
TICKS = os.sysconf("SC_CLK_TCK")


def machine_line(*packages: str) -> str:
    """The processor, its cores, Python and the versions of packages."""
    cores = len(os.sched_getaffinity(0))
    named = [f"{package} {_version(package)}" for package in packages]
    return ", ".join([_processor(), f"{cores} cores", f"Python {platform.python_version()}", *named])


def _processor() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are set to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def llama_tokenizer(folder: Path) -> str:
    """A folder with a SentencePiece model of 32,000 pieces as LLaMA publishes one: mistral-common's data file."""
    spec = importlib.util.find_spec("mistral_common")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("mistral-common is absent: make test installs it")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(spec.submodule_search_locations[0]) / "data" / "tokenizer.model.v1", folder / "tokenizer.model")
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 32000}))
    return str(folder)


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def range(self, form: str = ".2f") -> str:
        """The least and the greatest, as ``min–max``."""
        return f"{min(self.values):{form}}–{max(self.values):{form}}"


def cpu_seconds() -> float:
    """Processor time so far of this process and its children, those that ended included.

    Unlike elapsed time it hardly depends on what else runs on the machine.
    """
    living = 0.0
    children = psutil.Process().children(recursive=True)
    raylets = [child.pid for child in children if child.name() == "raylet"]
    forks = {process for raylet in raylets for process in processes_of(raylet)}
    for child in {*children, *forks}:
        with suppress(psutil.NoSuchProcess):
            taken = child.cpu_times()
            living += taken.user + taken.system + taken.children_user + taken.children_system
    own = os.times()
    return living + own.user + own.system + own.children_user + own.children_system


@dataclass(frozen=True)
class Cost:
    """What a command and every process that it started took."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """The most memory at one time: proportional set sizes, so that shared pages count once."""
    processes: int
    returncode: int
    output: str


def run_measured(command: Sequence[str], log: Path, every: float = 0.5) -> Cost:
    """Run a command and measure it with all of its processes, daemons that left the tree included.

    They are known by a marker in their environment, or by a parent that is one of them. A process's last reading
    counts: what it used in its last ``every`` seconds is missed.

    Args:
        command: the command line.
        log: where its stderr goes.
        every: seconds between two readings.
    """
    mark = uuid.uuid4().hex
    watch = _Watch(mark, every)
    started = time.monotonic()
    with open(log, "wb") as errors:
        done = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, MARK: mark}, start_new_session=True
        )
        watch.start()
        output, _ = done.communicate()
    seconds = time.monotonic() - started
    watch.stop()
    return Cost(seconds, sum(watch.cpu.values()), watch.peak, len(watch.cpu), done.returncode, output.decode())


class _Watch(threading.Thread):
    """Reads the memory and the processor time of all marked processes again and again."""

    def __init__(self, mark: str, every: float) -> None:
        super().__init__(daemon=True)
        self.cpu: dict[tuple[int, int], float] = {}
        """CPU seconds by process id and start time."""
        self.peak = 0
        self._mark = f"{MARK}={mark}".encode()
        self._every = every
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._every):
            self._read()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _read(self) -> None:
        memory = 0
        known = {pid for pid, _ in self.cpu}
        # In the order of their ids, which is mostly that of their birth: parents before children.
        for pid in sorted(int(folder.name) for folder in PROC.iterdir() if folder.name.isdigit()):
            try:
                fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
                key = pid, int(fields[19])
                # A process that renames itself may overwrite its environment: it is known by then, or by its parent.
                if not (key in self.cpu or int(fields[1]) in known or self._marked(pid)):
                    continue
                known.add(pid)
                self.cpu[key] = (int(fields[11]) + int(fields[12])) / TICKS
                memory += _proportional(pid)
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
        self.peak = max(self.peak, memory)

    def _marked(self, pid: int) -> bool:
        return self._mark in (PROC / str(pid) / "environ").read_bytes().split(b"\0")


def _proportional(pid: int) -> int:
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
