"""Memory that ran out is recognised below whatever wraps it, and told as settings to change."""

from __future__ import annotations

import pytest
import torch

from koala_ray.errors import KoalaError
from koala_ray.recipe_file import load_recipe
from koala_ray.train.oom import explain_oom

TINY = load_recipe("tiny")


def cuda_error(gigabytes: float = 79.25) -> Exception:
    return torch.OutOfMemoryError(
        f"CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of {gigabytes} GiB of which 1.1 "
        "are free."
    )


def test_on_a_gpu_settings_are_named_with_what_they_save() -> None:
    big = load_recipe("koala-all-13b", ["train.zero_stage=0"])
    found = explain_oom(cuda_error(), big)
    assert found is not None
    assert "Tried to allocate 2.00 GiB" in found.error
    assert found.where == "a GPU"
    assert "--set train.zero_stage=1  saves " in found.mend
    assert "of 85 GB, which fits" in found.mend, "79.25 GiB, as the error says"


def test_on_a_cpu_it_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    found = explain_oom(caught.value, load_recipe("tiny", ["train.micro_rows=2"]))
    assert found is not None
    assert "can't allocate memory" in found.error
    assert found.where == "a worker's machine"
    assert "train.micro_rows" in found.mend


def test_where_the_plan_says_that_it_fits_the_advice_begins_with_that() -> None:
    found = explain_oom(cuda_error(39.39), load_recipe("koala-all-13b"))
    assert found is not None
    said, *changes = found.mend.splitlines()
    assert said.startswith("the plan says it fits with 6.8 GB to spare: ")
    assert said.endswith("; then one by one, until it fits:")
    assert changes
    assert all(change.strip().startswith("--set ") for change in changes)


def test_it_is_found_below_what_wraps_it() -> None:
    from ray.exceptions import OutOfMemoryError
    from ray.train import WorkerGroupError

    killed = OutOfMemoryError("Task was killed due to the node running low on memory.")
    for wrapped in (killed, WorkerGroupError("worker 1 failed", {1: killed}), WorkerGroupError("", {0: cuda_error()})):
        assert explain_oom(wrapped, TINY) is not None
    assert explain_oom(MemoryError(), TINY) is not None


def test_without_a_known_shape_the_advice_is_general() -> None:
    found = explain_oom(cuda_error(), load_recipe("tiny", ["train.gpus_per_worker=1", "model.base=/nowhere/at/all"]))
    assert found is not None
    assert "train.activation_checkpointing=true" in found.mend


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("NCCL timed out"), KoalaError("something else")])
def test_other_errors_are_left_alone(error: Exception) -> None:
    assert explain_oom(error, TINY) is None
