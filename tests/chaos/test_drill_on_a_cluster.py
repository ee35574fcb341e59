"""The drill on a cluster that it didn't start: kills its own workers, takes nodes and gives them back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import koala

from koala_ray.cluster.token import auth_environment
from koala_ray.preempt.machines import processes_of
from koala_ray.quiet import set_switches

pytestmark = pytest.mark.chaos
NODES = 2


def ray_start(*arguments: str) -> str:
    """Start a node as users do, and give what that printed."""
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--disable-usage-stats",
        "--include-log-monitor=false",
    ]
    command += ["--object-store-memory", "100000000", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def members(folder: str) -> list[psutil.Process]:
    """The processes that name a cluster's folder in their command lines: its control store, its raylets, whoever."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            if process.pid != os.getpid() and folder in " ".join(process.cmdline()):
                found.append(process)
    return found


def raylets(folder: str) -> list[psutil.Process]:
    return [process for process in members(folder) if process.name() == "raylet"]


@pytest.fixture
def cluster(monkeypatch) -> Iterator[tuple[str, str]]:
    """A head that does no work and two nodes, by `ray start`: the address and the folder. No raylet is left behind."""
    set_switches()
    for name, value in auth_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    folder = tempfile.mkdtemp(prefix="given-")
    try:
        ray_start("--head", "--num-cpus=0", "--port=0", "--include-dashboard=false", f"--temp-dir={folder}")
        (address,) = {
            part.partition("=")[2]
            for process in raylets(folder)
            for part in process.cmdline()
            if part.startswith("--gcs-address=")
        }
        for _ in range(NODES):
            ray_start("--address", address, "--num-cpus=1")
        yield address, folder
    finally:
        for raylet in raylets(folder):
            for process in processes_of(raylet.pid):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        for process in members(folder):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def drill(out: Path, address: str, *arguments: str) -> subprocess.CompletedProcess:
    settings = ["--set", "train.micro_rows=1", "--set", "retries.settle_seconds=1", "--out", str(out), "--json"]
    return koala("drill", *settings, *arguments, env={**os.environ, "RAY_ADDRESS": address}, seconds=900)


def test_workers_drivers_and_nodes_vanish_and_the_nodes_come_back(cluster, tmp_path):
    address, folder = cluster
    kinds = ["worker", "notice", "node", "driver", "upload"]  # the node goes 20 s after the notice: not at the end
    longer = ["--set", "train.max_steps=100", "--set", "train.epochs=5"]
    done = drill(tmp_path, address, "--kills", ",".join(kinds), *longer)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["row_ids_equal"]
    assert found["weights_bit_identical"]
    assert [kill["kind"] for kill in found["kills"]] == kinds
    assert all(kill["seconds_to_resume"] for kill in found["kills"])
    assert len(raylets(folder)) == 1 + NODES
