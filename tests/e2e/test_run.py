"""The whole loop through the command line, in processes of their own, as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import koala
from transformers import AutoModelForCausalLM, AutoTokenizer

from koala_ray.checkpoint.manifest import committed_steps, last_checkpoint
from koala_ray.models.resolve import resolve
from koala_ray.preempt.machines import processes_of
from koala_ray.train.ledger import read_attempts

pytestmark = pytest.mark.ray
STEPS = 16
SMALL = [
    "--set", f"train.max_steps={STEPS}", "--set", "train.checkpoint_every=2", "--set", "generate.max_tokens=12",
]  # fmt: skip
TWO_WORKERS = ["--set", "train.workers=2", "--set", "train.zero_stage=2", "--set", "train.micro_rows=2"]
CHATTER = re.compile(r"WARNING|INFO|DEBUG|\(pid=|ray::|Traceback|it/s\]|\d+%\|")


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """One run of the loop, with what it printed."""
    out = tmp_path_factory.mktemp("loop")
    arguments = ["run", "tiny", "--out", str(out), "--json", "--set", "generate.limit=3", *SMALL, *TWO_WORKERS]
    return arguments, koala(*arguments)


def test_prints_progress_and_nothing_of_the_libraries(loop):
    _, done = loop
    assert done.returncode == 0, done.stderr
    assert re.search(rf"train +{STEPS}/{STEPS} steps  100 %", done.stderr)
    assert "tokens/s" in done.stderr
    assert not CHATTER.search(done.stderr), done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_json_has_the_figures_that_are_promised(loop):
    figures = json.loads(loop[1].stdout.splitlines()[-1])
    prepared, trained, generated = figures["prepare"], figures["train"], figures["generate"]["tuned"]
    assert {
        "folder", "content_hash", "rows_in", "rows_kept", "rows_rejected", "sources", "tokens", "learnt_tokens",
        "packs", "fill", "seconds",
    } <= prepared.keys()  # fmt: skip
    assert prepared["rows_in"] == prepared["rows_kept"] + prepared["rows_rejected"]
    for source in prepared["sources"].values():
        assert source["rows_in"] == source["rows_kept"] + sum(source["rejected"].values())
    assert {
        "folder", "run", "steps", "loss_first", "loss_last", "heldout_loss_first", "heldout_loss_last",
        "tokens_per_second", "seconds", "dollars", "model", "resumed_from",
    } <= trained.keys()  # fmt: skip
    assert trained["steps"] == STEPS
    assert trained["loss_last"] < trained["loss_first"]
    assert trained["heldout_loss_last"] < trained["heldout_loss_first"]
    assert generated["asked"] == generated["answered"] + generated["failed"] == 3
    assert generated["failed"] == 0
    assert generated["tokens"] > 0


def test_the_model_is_a_hugging_face_folder_that_was_trained(loop):
    figures = json.loads(loop[1].stdout.splitlines()[-1])
    model = AutoModelForCausalLM.from_pretrained(figures["train"]["model"])
    tokenizer = AutoTokenizer.from_pretrained(figures["train"]["model"])
    assert tokenizer.eos_token == "</s>"
    base = AutoModelForCausalLM.from_pretrained(resolve("tiny"))
    assert model.state_dict().keys() == base.state_dict().keys()
    assert not torch.equal(model.lm_head.weight, base.lm_head.weight)
    assert model.config.use_cache
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_the_page_shows_both_models(loop):
    figures = json.loads(loop[1].stdout.splitlines()[-1])
    text = Path(figures["page"]).read_text(encoding="utf-8")
    assert text.count('class="answer base"') == text.count('class="answer tuned"') == 3
    assert "data:image/png;base64," in text


def test_the_figures_are_kept_and_drawn(loop):
    run = Path(json.loads(loop[1].stdout)["train"]["folder"])
    assert list(run.glob("tensorboard/events.*"))
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "held-out" in (run / "curves.html").read_text(encoding="utf-8")
    kinds = [json.loads(line)["kind"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert kinds == ["start", "evaluation", *["step"] * STEPS, "evaluation"]


def test_a_rerun_does_nothing_and_changes_nothing(loop):
    arguments, first = loop
    before = json.loads(first.stdout.splitlines()[-1])
    again = koala(*arguments)
    assert again.returncode == 0, again.stderr
    after = json.loads(again.stdout.splitlines()[-1])
    assert after["prepare"]["skipped"]
    assert after["train"]["skipped"]
    assert after["generate"]["tuned"]["skipped"]
    assert after["prepare"]["content_hash"] == before["prepare"]["content_hash"]
    assert after["train"]["loss_last"] == before["train"]["loss_last"]
    assert "steps" not in again.stderr


def test_too_many_workers_are_refused_before_ray_waits(loop, tmp_path):
    out = str(Path(json.loads(loop[1].stdout)["prepare"]["folder"]).parent)
    refused = koala(
        "train", "tiny", "--out", out, "--json", "--set", "train.workers=64", "--set", "train.batch_rows=256"
    )
    assert refused.returncode == 2
    error = json.loads(refused.stdout.splitlines()[-1])
    assert "64 × 1 CPU" in error["error"]
    assert "train.workers=" in error["mend"]
    assert "Traceback" not in refused.stderr


def committed_steps_of(out: Path) -> int:
    """The steps of the last committed checkpoint of the one run below a folder."""
    return sum(committed_steps(str(folder)) for folder in out.glob("train-*"))


def wait_for_commit(process: subprocess.Popen, out: Path, steps: int) -> int:
    """Wait until a checkpoint of at least so many steps is committed; gives the steps of the last one."""
    while (found := committed_steps_of(out)) < steps:
        assert process.poll() is None, "the run has ended"
        time.sleep(0.05)
    return found


def train_worker(driver: int) -> psutil.Process:
    """A train worker of the private Ray that a process has started."""
    (raylet,) = (child.pid for child in psutil.Process(driver).children() if child.name() == "raylet")
    return next(process for process in processes_of(raylet) if "RayTrainWorker" in " ".join(process.cmdline()))


def test_a_run_killed_and_out_of_money_and_damaged_ends_as_the_undisturbed_one(loop, tmp_path):
    """A worker killed, then the driver, then the budget spent, then a shard damaged: same losses, same weights."""
    undisturbed = json.loads(loop[1].stdout)["train"]
    for prepared in Path(undisturbed["folder"]).parent.glob("[ct]*-*"):
        if not prepared.name.startswith("train-"):
            shutil.copytree(prepared, tmp_path / prepared.name)
    arguments = ["train", "tiny", "--out", str(tmp_path), "--json", *SMALL, *TWO_WORKERS]
    told = tmp_path / "told.txt"
    with told.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "koala_ray", *arguments], stderr=file, stdout=subprocess.DEVNULL
        )
    try:
        safe = wait_for_commit(process, tmp_path, 2)
        train_worker(process.pid).kill()
        # One more may have been on its way; what comes after that is the new workers'.
        wait_for_commit(process, tmp_path, safe + 4)
    finally:
        process.kill()
        process.wait()
    assert told.read_text().count("starting the workers again") == 1
    # A dollar a second, two more than was spent: that is gone before the workers have started.
    (ledger,) = tmp_path.glob("train-*/attempts.jsonl")
    budget = read_attempts(str(ledger))[0].hours * 3600 + 2
    broke = koala(*arguments, "--price", "3600", "--budget", f"{budget:.2f}")
    assert broke.returncode == 2, broke.stderr
    error = json.loads(broke.stdout.splitlines()[-1])
    assert re.search(rf"the budget of \$[\d.]+ is spent after step \d+ of {STEPS}", error["error"])
    assert "--budget" in error["mend"]
    last = last_checkpoint(str(ledger.parent))
    shard = Path(last.file(last.manifest.shards[1].file))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = koala(*arguments)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"{Path(last.uri).name} can't be used: {shard.name} has another sha256", done.stderr)
    resumed = json.loads(done.stdout.splitlines()[-1])
    assert resumed["resumed_from"] != f"step {last.manifest.steps_taken}"
    assert [attempt.ended for attempt in read_attempts(str(ledger))] == [None, "budget", "finished"]
    assert resumed["folder"].rsplit("/", 1)[1] == undisturbed["folder"].rsplit("/", 1)[1]
    losses = [
        [record["loss"] for record in map(json.loads, lines) if record["kind"] == "step"]
        for lines in (Path(run["folder"], "metrics.jsonl").read_text().splitlines() for run in (undisturbed, resumed))
    ]
    assert len(losses[0]) == STEPS
    assert losses[0] == losses[1]
    states = [AutoModelForCausalLM.from_pretrained(run["model"]).state_dict() for run in (undisturbed, resumed)]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
