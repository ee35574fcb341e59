"""A served model gets a second replica when more is asked than one answers; nobody is refused meanwhile."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import openai
import psutil
import pytest

from koala_ray.preempt.fleet import wait_for
from koala_ray.preempt.machines import processes_of

pytestmark = pytest.mark.chaos
PATIENCE = 180.0
CLIENTS = 12


@pytest.fixture
def served() -> Iterator[tuple[str, int]]:
    """`koala-ray serve` with one replica or two: the URL and the process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sets = [part for value in ("replicas=[1,2]", "concurrent=2", "cpus=1") for part in ("--set", f"generate.{value}")]
    command = [sys.executable, "-m", "koala_ray", "serve", "--models", "tiny", "--port", str(port), *sets]
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"KOALA_RAY_CPUS": "2"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    told = ""
    for line in process.stderr:
        told += line
        if re.search("Ctrl-C ends it", line):
            break
    assert process.poll() is None, told
    yield f"http://127.0.0.1:{port}/v1", process.pid
    process.send_signal(signal.SIGINT)
    process.wait(60)


def replicas(command: int) -> int:
    """The model's replicas in the private Ray of a command."""
    found = 0
    for raylet in [one.pid for one in psutil.Process(command).children() if one.name() == "raylet"]:
        for process in processes_of(raylet):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                found += " ".join(process.cmdline()).startswith("ray::ServeReplica:koala:model0")
    return found


def test_a_second_replica_comes_when_one_is_not_enough(served):
    url, command = served
    assert replicas(command) == 1
    enough, failures, answered = threading.Event(), [], []

    def ask() -> None:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE)
        while not enough.is_set():
            try:
                answered.append(client.completions.create(model="tiny", prompt="Hello", max_tokens=200).usage)
            except openai.APIError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: replicas(command) == 2, PATIENCE, "a second replica", every=1.0)
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert answered
