"""Ray as its users use it: a local cluster, and jobs submitted to it from a shell that has the printed lines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT, koala

from koala_ray.home import HOME_VARIABLE, state_folder
from koala_ray.models.resolve import resolve
from koala_ray.steps import read_manifest

pytestmark = pytest.mark.ray
RAY = str(Path(os.sys.executable).with_name("ray"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """The environment of a shell after `eval "$(koala-ray cluster up)"`, the cluster being down afterwards."""
    resolve("smollm2-135m"), resolve("tiny")
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(state_folder() / "models")
    # Jobs run where the cluster was started: a folder that has jobs/, but isn't this checkout.
    (home / "jobs").symlink_to(ROOT / "jobs")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment[HOME_VARIABLE] = str(home)
    environment["PATH"] = f"{Path(RAY).parent}:{environment['PATH']}"
    started = koala("cluster", "up", env=environment, cwd=home)
    assert started.returncode == 0, started.stderr
    exports = dict(re.findall(r"^export (\w+)=(\S+)$", started.stdout, re.MULTILINE))
    assert {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"} <= exports.keys()
    assert os.stat(exports["RAY_AUTH_TOKEN_PATH"]).st_mode & 0o077 == 0
    yield environment | exports
    ended = koala("cluster", "down", env=environment)
    assert ended.returncode == 0, ended.stderr


def test_a_job_with_arguments_trains_and_streams(shell, tmp_path):
    """A whole epoch, whose last global batch is filled up with rows of weight zero."""
    command = [RAY, "job", "submit", "--", "jobs/train.py", "--recipe", "tiny", "--set", "train.epochs=1"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)],
        env=shell, cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"train +\d+/\d+ steps .*loss \d", done.stdout)
    [model] = re.findall(r"^model: (\S+)$", done.stdout, re.MULTILINE)
    assert Path(model, "model.safetensors").is_file()
    assert "succeeded" in done.stdout
    counts = read_manifest(str(Path(model).parent)).counts
    [tokens] = tmp_path.glob("tokens-*")
    rows = read_manifest(str(tokens)).counts["rows"]
    assert rows % 8 != 0
    assert counts["steps"] == rows // 8 + 1
    listed = koala("cluster", "status", "--json", env=shell)
    assert '"SUCCEEDED"' in listed.stdout


def test_the_literal_command_trains_the_default_recipe(shell):
    """`ray job submit jobs/train.py`, nothing more: watched until its steps are streamed, then stopped."""
    environment = shell | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [RAY, "job", "submit", "jobs/train.py"],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    seen, steps = "", None
    for line in process.stdout:
        seen += line
        steps = re.search(r"train +[1-9]\d*/\d+ steps .*loss \d", line)
        if steps or time.monotonic() > deadline:
            break
    [job] = set(re.findall(r"raysubmit_\w+", seen))
    subprocess.run([RAY, "job", "stop", job], env=shell, check=True, capture_output=True, timeout=60)
    process.wait(timeout=60)
    assert steps, seen


def test_a_drill_takes_no_node_where_there_is_only_the_head(shell, tmp_path):
    refused = koala("drill", "--kills", "worker,node", "--out", str(tmp_path), "--json", env=shell)
    assert refused.returncode == 2
    assert "only its head node" in json.loads(refused.stdout.splitlines()[-1])["error"]
    assert not list(tmp_path.iterdir())


def test_without_the_token_nothing_is_let_in(shell):
    stranger = {key: value for key, value in shell.items() if not key.startswith("RAY_AUTH")}
    stranger["RAY_AUTH_MODE"] = "disabled"
    refused = subprocess.run([RAY, "job", "list"], env=stranger, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert re.search("401|403|[Aa]uthenti", refused.stdout + refused.stderr)
