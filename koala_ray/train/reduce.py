"""What all workers put together, over whichever backend they talk."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


def sum_over_workers(values: torch.Tensor) -> torch.Tensor:
    """The elementwise sum of a CPU tensor over all workers, on the CPU; every worker must call it.

    NCCL takes tensors on the GPU only, gloo those on the CPU.
    """
    total = values.to("cuda" if dist.get_backend() == "nccl" else "cpu", copy=True)
    dist.all_reduce(total)
    return total.cpu()


def gather_from_workers(value: Value) -> list[Value]:
    """Every worker's value, in the order of their ranks; every worker must call it. Values travel pickled."""
    gathered: list[Value | None] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return [one for one in gathered if one is not None]
