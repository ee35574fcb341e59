"""`ray job submit jobs/train.py` on a head and two nodes, its storage on S3, while machines vanish."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from object_store import new_bucket

from koala_ray.preempt.arm import Arm
from koala_ray.preempt.drill import Drill
from koala_ray.preempt.machines import machines
from koala_ray.preempt.verdict import verdict

pytestmark = pytest.mark.chaos
SETTINGS = [
    "train.workers=[1,2]", "train.max_steps=60", "train.epochs=4", "train.checkpoint_every=2", "train.zero_stage=2",
    "retries.settle_seconds=1",
]  # fmt: skip
BIN = Path(sys.executable).parent


class Job(Arm):
    """A submitted job; killing its driver leaves the cluster as it is."""

    def kill(self) -> None:
        assert self.process
        drivers = [process for process in psutil.process_iter(["cmdline"]) if self._drives(process)]
        assert drivers
        for driver in drivers:
            driver.kill()
        self.process.wait(60)

    def _drives(self, process: psutil.Process) -> bool:
        line = process.info["cmdline"] or []
        return self.command[-1] in " ".join(line) and "submit" not in line


def job(out: str, env: dict[str, str]) -> Job:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [str(BIN / "ray"), "job", "submit", "--", "jobs/train.py", "--recipe", "tiny", "--json", *settings]
    return Job([*command, "--out", out], env)


def test_a_submitted_job_outlives_notice_node_driver_and_a_shrink(s3_endpoint, monkeypatch):
    monkeypatch.chdir(ROOT)  # jobs run where the cluster was started
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    bucket = new_bucket()
    with machines(2, dashboard=True) as here:
        env = {**os.environ, "RAY_ADDRESS": here.address, "RAY_API_SERVER_ADDRESS": here.dashboard}
        quiet = job(f"{bucket}/undisturbed", env)
        quiet.start()
        quiet.finish(600)
        disturbed = job(f"{bucket}/disturbed", env)
        drill = Drill(here, disturbed, f"{bucket}/disturbed", 2, 0)
        drill.run(["notice", "node", "driver", "shrink"], 60)
        found = verdict(quiet.figures, disturbed.figures, drill.kills, disturbed.printed)
    assert found["row_ids_equal"]
    assert found["rows_lost"] == found["rows_repeated"] == 0
    assert found["loss_max_relative_difference"] <= 1e-4
    assert found["kills"][-1]["detail"] == "2 workers, then 1, then 2"
