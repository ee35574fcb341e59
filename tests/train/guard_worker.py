"""A worker under guards, as a script: DeepSpeed and collectives that fail want processes of their own.

A worker alone takes five steps of each case twice, once with two bad ones in between. Two together do so for one case,
then one of them hangs and is gone. What a worker found out is the last line of its output.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from koala_ray.errors import KoalaError
from koala_ray.recipe import GuardSettings, TrainSettings
from koala_ray.train.guards import Guards, arm, explain_hang

CASES = {
    "zero 0": {"zero_stage": 0},
    "zero 1": {"zero_stage": 1},
    "zero 2": {"zero_stage": 2},
    "zero 3": {"zero_stage": 3},
    "zero 0, bfloat16": {"zero_stage": 0, "precision": "bfloat16"},
    "zero 2, bfloat16": {"zero_stage": 2, "precision": "bfloat16"},
    "zero 3, bfloat16": {"zero_stage": 3, "precision": "bfloat16"},
    "zero 2, offload": {"zero_stage": 2, "offload_optimizer": True},
    "zero 3, offload": {"zero_stage": 3, "offload_optimizer": True, "offload_weights": True},
}
BATCH_ROWS = 2


def prove(case: dict[str, Any]) -> dict[str, Any]:
    """What a case's bad steps leave behind."""
    import torch

    settings = TrainSettings(batch_rows=BATCH_ROWS, lr=1e-2, weight_decay=0.1, **case)
    guards = GuardSettings(nonfinite="skip", spike="skip", grad_norm="stop", window=6)
    guarded, clean = Trial(settings, guards), Trial(settings, guards)
    ordinary = torch.randn(6, BATCH_ROWS, 8, generator=torch.Generator().manual_seed(1))
    poisoned = ordinary[0].clone()
    poisoned[1, 0] = math.nan
    before = guarded.held()
    for rows in ordinary[:3]:
        guarded.step(rows)
        clean.step(rows)
    found: dict[str, Any] = {"moved by an ordinary step": not same(guarded.held(), before)}
    before = guarded.held()
    incidents = [guarded.step(poisoned)]
    found["kept over nan"] = same(guarded.held(), before)
    incidents.append(guarded.step(ordinary[0], told=100.0))
    found["kept over a spike"] = same(guarded.held(), before)
    for rows in ordinary[3:5]:
        guarded.step(rows)
        clean.step(rows)
    found["then as if nothing had been"] = same(guarded.held(), clean.held())
    found["incidents"] = incidents
    before = guarded.held()
    try:
        guarded.step(ordinary[5], weight=1e3)
    except KoalaError as error:
        found["stop"] = error.error
    found["kept over the stop"] = same(guarded.held(), before)
    return found


class Trial:
    """A small model under an engine with a gate, stepped as the training loop does it."""

    def __init__(self, settings: TrainSettings, guards: GuardSettings) -> None:
        import deepspeed
        import torch
        from deepspeed.ops import __compatible_ops__ as ops

        from koala_ray.train.engine import clipped_by_the_loop, deepspeed_config

        ops["deepspeed_shm_comm"] = False
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))
        self.settings = settings.model_copy(update={"workers": torch.distributed.get_world_size()})
        self.dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        self.clips = clipped_by_the_loop(settings)
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in model.to(self.dtype).parameters() if (p.ndim > 1) is matrices]}
                for matrices in (True, False)
            ],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        # torch's AdamW with an offloaded optimizer too: DeepSpeed's own takes minutes to compile.
        config = {**deepspeed_config(self.settings), "zero_force_ds_cpu_optimizer": False}
        self.engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        self.gate = arm(self.engine, Guards(guards), "metrics.jsonl")
        self.steps = 0

    def step(self, rows: Any, weight: float = 1.0, told: float | None = None) -> dict[str, Any] | None:
        """One global batch; ``weight`` scales its gradient alone, ``told`` is the loss that the gate hears of."""
        import torch
        import torch.distributed as dist

        share = BATCH_ROWS // dist.get_world_size()
        mine = range(dist.get_rank() * share, (dist.get_rank() + 1) * share)
        total = torch.zeros(())
        table = pa.table({"gidx": list(mine), "examples": [[f"a#{row}"] for row in mine]})
        for row in mine:
            loss = self.engine(rows[row : row + 1].to(self.dtype)).float().square().mean()
            total += loss.detach()
            self.engine.backward(loss * weight)
            if row < mine[-1]:
                self.engine.step()
        dist.all_reduce(total)
        loss = float(total) if told is None else told
        if self.clips:
            norm = torch.nn.utils.clip_grad_norm_(self.engine.module.parameters(), self.settings.clip)
            self.gate.expect(self.steps, loss, table, float(norm))
        else:
            self.gate.expect(self.steps, loss, table)
        self.engine.step()
        self.steps += 1
        incident = self.gate.incident()
        self.gate.raise_if_stopped()
        return incident

    def held(self) -> list[Any]:
        """Weights, master weights, moments and step counts."""
        optimizer = self.engine.optimizer
        tensors = [getattr(p, "ds_tensor", p) for p in self.engine.module.parameters()]
        for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat", "fp32_groups"):
            for group in getattr(optimizer, name, []):
                tensors += group if isinstance(group, list) else [group]
        states = self.engine.basic_optimizer.state.values()
        tensors += [state[key] for state in states for key in ("exp_avg", "exp_avg_sq", "step") if key in state]
        return [tensor.detach().clone() for tensor in tensors]


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two states are the same to the bit."""
    import torch

    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def fail(rank: int) -> list[str]:
    """What the first worker is told when the second one hangs, and when it is gone."""
    import torch
    import torch.distributed as dist

    impatient = [dist.new_group(timeout=timedelta(seconds=3)) for _ in range(2)]
    for group in impatient:
        dist.all_reduce(torch.ones(1), group=group)
    processes = [0, 0]
    dist.all_gather_object(processes, os.getpid())
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    told = [failure(impatient[0]), failure(impatient[0])]
    os.kill(processes[1], signal.SIGKILL)
    return [*told, failure(impatient[1])]


def failure(group: Any) -> str:
    """How a collective that must fail is explained."""
    import torch
    import torch.distributed as dist

    with pytest.raises(RuntimeError) as raised:
        dist.all_reduce(torch.ones(1), group=group)
    return str(explain_hang(raised.value, 3))


def main(store: str, rank: str, world: str) -> None:
    os.environ.update(DS_ACCELERATOR="cpu", RANK=rank, WORLD_SIZE=world, LOCAL_RANK=rank)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(world))
    if world == "1":
        print(json.dumps({name: prove(case) for name, case in CASES.items()}), flush=True)
    else:
        found: dict[str, Any] = {"steps": prove(CASES["zero 2"])}
        if rank == "1":
            print(json.dumps(found), flush=True)
        print(json.dumps({**found, "told": fail(int(rank))}), flush=True)
    os._exit(0)  # a process group whose other worker is gone can't be taken down


if __name__ == "__main__":
    main(*sys.argv[1:])
