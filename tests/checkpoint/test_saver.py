"""Checkpoints of a real engine in one process: committed in the background, and storage that fails."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from faulty_s3 import FOREVER, FaultyS3, through
from object_store import new_bucket

from koala_ray import storage
from koala_ray.checkpoint.manifest import CHECKPOINTS, committed_steps, last_checkpoint, whole_checkpoints
from koala_ray.checkpoint.restore import restore
from koala_ray.checkpoint.saver import Saver
from koala_ray.errors import KoalaError, StorageFailure
from koala_ray.recipe import LoraSettings, TrainSettings
from koala_ray.train.engine import build_engine, deepspeed_config
from koala_ray.train.model import load_model

SETTINGS = TrainSettings(batch_rows=1, keep_checkpoints=2, lr=1e-3)


@pytest.fixture
def engine(one_worker):
    torch.manual_seed(0)
    built = build_engine(load_model("tiny", SETTINGS, LoraSettings(), deepspeed_config(SETTINGS)), SETTINGS)
    yield built
    built.destroy()


def step(engine) -> None:
    """Any step that changes weights and moments."""
    for parameter in engine.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    engine.basic_optimizer.step()


def saved(engine, folder: str, *steps: int, told: list | None = None, run: dict | None = None) -> Saver:
    """A saver that has saved after each of some steps."""
    saver = Saver(engine, folder, SETTINGS, run or {}, patience=30, told=(told if told is not None else []).append)
    for number in steps:
        step(engine)
        saver.save(number, [{"kind": "step", "step": number}], {})
    return saver


def test_a_checkpoint_is_what_the_weights_were_when_it_was_asked_for(engine, root):
    saver = saved(engine, root, 1)
    copies = {name: weight.detach().clone() for name, weight in engine.module.named_parameters()}
    moments = {key: state["exp_avg"].clone() for key, state in engine.basic_optimizer.state.items()}
    step(engine)  # while it is being written
    saver.finish()
    restored = restore(engine, root, {}, pytest.fail)
    assert restored.steps_taken == 1
    assert restored.records == ({"kind": "step", "step": 1},)
    for name, weight in engine.module.named_parameters():
        assert torch.equal(weight, copies[name]), name
    for key, moment in moments.items():
        assert torch.equal(engine.basic_optimizer.state[key]["exp_avg"], moment)
        assert engine.basic_optimizer.state[key]["step"] == 1


def test_the_last_ones_stay(engine, root):
    told: list[dict] = []
    saved(engine, root, 1, 2, 3, told=told).finish()
    assert [one.manifest.steps_taken for one in whole_checkpoints(root)] == [3, 2]
    assert [message["step"] for message in told] == [1, 2, 3]
    assert all(message["seconds"] > 0 and message["bytes"] > 1e6 for message in told)


def test_what_a_dead_attempt_never_committed_is_removed(engine, root):
    left = storage.join(root, CHECKPOINTS, "step-000009-dead", "shard-00000.safetensors")
    storage.write_atomic(left, b"half of it")
    saved(engine, root, 1).finish()
    assert not storage.exists(left)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 KiB: what a disk says that is full, the system says of a file."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(engine, tmp_path):
    folder, told = str(tmp_path), []
    saver = saved(engine, folder, 1, told=told)
    saver.finish()
    with full_disk():
        step(engine)
        saver.save(2, [], {})
        with pytest.raises(RuntimeError, match="the checkpoint of step 2 failed: worker 0"):
            saver.finish()
    assert committed_steps(folder) == 1
    assert "File too large" in told[-1]["failure"]
    step(engine)
    saver.save(3, [], {})
    saver.finish()
    assert committed_steps(folder) == 3
    assert [one.manifest.steps_taken for one in whole_checkpoints(folder)] == [3, 1]


def test_an_s3_that_is_gone_for_a_while_costs_what_was_due_then(engine, s3_endpoint, monkeypatch):
    folder, told = new_bucket(), []
    with FaultyS3(s3_endpoint) as faulty, through(faulty, monkeypatch, attempts=2):
        saver = saved(engine, folder, 1, told=told)
        saver.finish()
        faulty.fail("step-000002", times=FOREVER, status=503)
        step(engine)
        saver.save(2, [], {})
        step(engine)
        saver.save(3, [], {})
        saver.finish()
    assert [("failure" in message) for message in told] == [False, True, False]
    assert [one.manifest.steps_taken for one in whole_checkpoints(folder)] == [3, 1]


def test_an_s3_that_fails_while_a_run_goes_on_is_no_damage(engine, s3_endpoint, monkeypatch):
    folder = new_bucket()
    saved(engine, folder, 1).finish()
    with FaultyS3(s3_endpoint) as faulty, through(faulty, monkeypatch, attempts=1):
        faulty.fail("GET .*shard", times=FOREVER, status=503)
        with pytest.raises(StorageFailure, match="can't be used"):
            restore(engine, folder, {}, pytest.fail)
        faulty.clear()
        assert restore(engine, folder, {}, pytest.fail).steps_taken == 1


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(engine, tmp_path):
    saved(engine, str(tmp_path), 1, run={"train": {"lr": 1e-3, "seed": 0}}).finish()
    with pytest.raises(KoalaError, match=r"another run: train.lr was 0.001, is 0.002"):
        restore(engine, str(tmp_path), {"train": {"lr": 2e-3, "seed": 0}}, pytest.fail)


def test_a_damaged_shard_is_passed_over_for_the_checkpoint_before(engine, tmp_path):
    notices: list[str] = []
    saved(engine, str(tmp_path), 1, 2).finish()
    last = last_checkpoint(str(tmp_path))
    shard = Path(last.file(last.manifest.shards[0].file))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert restore(engine, str(tmp_path), {}, notices.append).steps_taken == 1
    assert "another sha256" in notices[0]
    assert committed_steps(str(tmp_path)) == 1
