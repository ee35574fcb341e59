"""Switches a machine's Ray off at once, and on again when it is called: a process of its own that outlives both.

``python -m koala_ray.preempt.power RAYLET_PID ADDRESS KEY COMMAND…`` kills the raylet and all that belongs to it, waits
for a key in the cluster's control store, and runs the command. It doesn't wait for ever, so that no machine stays away
because a drill was killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil

NAMESPACE = b"koala-ray-drill"
EVERY_SECONDS = 0.5
LONGEST_SECONDS = 1800.0
"""After this a node comes back uncalled."""


def switch_off(raylet: int) -> None:
    """Kill a raylet, its workers, its fork server, whoever they are; not this process."""
    from koala_ray.preempt.machines import processes_of

    for process in processes_of(raylet):
        with suppress(psutil.NoSuchProcess):
            if process.pid != os.getpid():
                process.kill()


def wait_for_call(address: str, key: str) -> None:
    """Wait until a key is in the control store, or for :data:`LONGEST_SECONDS`."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

    until = time.monotonic() + LONGEST_SECONDS
    client = GcsClient(address=address)
    while time.monotonic() < until:
        with suppress(Exception):  # the control store is away for a moment
            if client.internal_kv_exists(key.encode(), NAMESPACE):
                return
        time.sleep(EVERY_SECONDS)


def main(raylet: str, address: str, key: str, *rejoin: str) -> int:
    """Off, wait, on; the command's exit status."""
    switch_off(int(raylet))
    wait_for_call(address, key)
    return subprocess.run(rejoin).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
