"""Invariant 3 where the state is kept in other ways: bfloat16 weights beside float32 ones, optimizers on the CPU."""

from __future__ import annotations

import pytest
import torch
from cases import SAVED_AFTER, STEPS, run_cases

STAGES = (0, 1, 2, 3)
OFFLOADED = (1, 2, 3)
"""Without shards there is nothing that DeepSpeed would put elsewhere."""
WORKERS = 2


def stopped_and_resumed(tokens: str, folder: str, stages: tuple[int, ...], more: dict) -> dict[str, dict]:
    """For each ZeRO stage a run with a checkpoint in it, one that goes on from there, and one under another stage."""
    common = {"batch_rows": 8, "micro_rows": 2, "dropout": 0.2, "checkpoint_every": SAVED_AFTER, **more}
    written = {stage: f"{folder}/{stage}" for stage in stages}
    saved = {f"saved{stage}": {"zero_stage": stage, "saved": written[stage], **common} for stage in stages}
    resumed = {f"resumed{stage}": {"zero_stage": stage, "resumed": written[stage], **common} for stage in stages}
    moved = {
        f"moved{stage}": {"zero_stage": stage, "resumed": written[other], **common}
        for stage, other in zip(stages, reversed(stages), strict=True)
    }
    return run_cases(WORKERS, tokens, saved | resumed | moved)


def check(results: dict[str, dict], stages: tuple[int, ...], tolerance: float) -> None:
    """The resumed runs are the stopped ones to the last bit; under another stage, within a tolerance."""
    for stage in stages:
        saved, resumed, moved = (results[f"{name}{stage}"] for name in ("saved", "resumed", "moved"))
        assert len(saved["losses"]) == STEPS
        assert resumed["losses"] == saved["losses"][SAVED_AFTER:], stage
        assert resumed["grad_norms"] == saved["grad_norms"][SAVED_AFTER:], stage
        for key, weight in saved["weights"].items():
            assert torch.equal(resumed["weights"][key], weight), (stage, key)
        assert moved["losses"] == pytest.approx(saved["losses"][SAVED_AFTER:], rel=tolerance), stage
        assert resumed["notices"] == moved["notices"] == []


@pytest.mark.ray
def test_a_bfloat16_run_resumes_to_the_last_bit(short_tokens, tmp_path):
    results = stopped_and_resumed(short_tokens.folder, str(tmp_path), STAGES, {"precision": "bfloat16"})
    for stage in STAGES[1:]:  # without a wrapper the model that is saved is the one that computes
        assert all(weight.dtype == torch.bfloat16 for weight in results[f"saved{stage}"]["weights"].values())
    check(results, STAGES, 2e-2)  # a bfloat16 has 8 bits of precision


@pytest.mark.chaos
def test_a_run_with_its_optimizer_on_the_cpu_resumes_to_the_last_bit(short_tokens, tmp_path):
    """Among the long ones: DeepSpeed compiles this optimizer when it is first used."""
    results = stopped_and_resumed(short_tokens.folder, str(tmp_path), OFFLOADED, {"offload_optimizer": True})
    check(results, OFFLOADED, 1e-4)
