"""Preparing and answering while a node vanishes, and the driver: run again, the same comes out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.preempt.arm import Arm
from koala_ray.preempt.fleet import wait_for
from koala_ray.preempt.machines import Machines, machines, processes

pytestmark = pytest.mark.chaos
PATIENCE = 300.0
OF_RAY = ("DashboardAgent", "RuntimeEnvAgent", "IDLE")


def arm(here: Machines, out: Path, *arguments: str) -> Arm:
    line = [sys.executable, "-m", "koala_ray", *arguments, "--json", "--out", str(out)]
    return Arm(line, {**os.environ, "RAY_ADDRESS": here.address})


def busy(here: Machines) -> list[Any]:
    """The nodes on which something runs that isn't Ray's own."""

    def works(process: psutil.Process) -> bool:
        try:
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return False
        return line.startswith("ray::") and not any(name in line for name in OF_RAY)

    return [node for node in here.nodes if any(works(process) for process in processes(node))]


def lose_a_busy_node(here: Machines) -> None:
    here.lose(wait_for(lambda: busy(here), PATIENCE, "a task on a node")[0])
    here.add()


def finish(here: Machines, running: Arm) -> None:
    """To the end; where the command gave up, run it again, which is all that its user would do."""
    for _ in range(3):
        try:
            return running.finish(PATIENCE)
        except KoalaError:
            running.start()
    raise AssertionError(running.said[-5:])


def prepared(out: Path) -> dict[str, str]:
    """The data of all steps, by path."""
    found = storage.list_files(str(out), ["curate-*/*.parquet", "tokens-*/*/*"])
    return {file.relative: storage.sha256(file.uri) for file in found}


def answered(out: Path) -> list[tuple[str, str]]:
    (file,) = out.glob("generate-*/answers.jsonl")
    return [(line["id"], line["answer"]) for line in map(json.loads, file.read_text().splitlines())]


def test_preparation(tmp_path):
    with machines(2) as here:
        quiet = arm(here, tmp_path / "a", "prepare", "tiny")
        quiet.start()
        quiet.finish(PATIENCE)
        lost = arm(here, tmp_path / "b", "prepare", "tiny")
        lost.start()
        lose_a_busy_node(here)
        finish(here, lost)
        killed = arm(here, tmp_path / "c", "prepare", "tiny")
        killed.start()
        wait_for(lambda: busy(here), PATIENCE, "a task on a node")
        killed.kill()
        killed.start()
        finish(here, killed)
    assert prepared(tmp_path / "a") == prepared(tmp_path / "b") == prepared(tmp_path / "c") != {}


def test_answers(tmp_path):
    arguments = ["generate", "--model", "tiny", "--prompts", "sample", "--set", "generate.max_tokens=24"]
    with machines(2, cpus=2) as here:
        quiet = arm(here, tmp_path / "a", *arguments)
        quiet.start()
        quiet.finish(PATIENCE)
        running = arm(here, tmp_path / "b", *arguments)
        running.start()
        lose_a_busy_node(here)
        finish(here, running)
    assert answered(tmp_path / "b") == answered(tmp_path / "a") != []
