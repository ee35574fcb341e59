"""The ways to train that gpu_check.py compares, each in processes of its own: run as a script, this is one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.tokens.shards import ShardReader, read_plan


@dataclass(frozen=True)
class Way:
    """One way to train, and what a process is told of it."""

    model: str
    rows: str
    out: str
    device: str
    workers: int
    zero: int
    loss: str
    context: int
    steps: int
    micro_rows: int
    accumulation: int
    checkpointing: bool

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"ZeRO-{self.zero}, {self.loss} loss"

    @property
    def recipe(self) -> Recipe:
        """koala-ray's settings for it."""
        gpu = self.device == "cuda"
        return load_recipe(
            "tiny",
            [
                f"model.base={self.model}",
                f"tokens.context={self.context}",
                f"train.workers={self.workers}",
                f"train.gpus_per_worker={int(gpu)}",
                f"train.precision={'bfloat16' if gpu else 'float32'}",
                f"train.zero_stage={self.zero}",
                f"train.loss={self.loss}",
                f"train.activation_checkpointing={self.checkpointing}",
                f"train.micro_rows={self.micro_rows}",
                f"train.batch_rows={self.workers * self.micro_rows * self.accumulation}",
                "train.lr=1e-4",
                "train.schedule=constant",
                "train.warmup_steps=0",
            ],
        )


@dataclass(frozen=True)
class Result:
    """What the first process of a way found."""

    losses: list[float]
    seconds: list[float]
    tokens: list[int]
    peak_bytes: int
    """Allocated on the first GPU at most; 0 on a CPU."""
    apart: float
    """The mean difference between a token's loss in a packed row and alone."""
    erased: float
    """The same with the borders between dialogues erased, which must be large."""
    device: str


def run(way: Way) -> Result:
    """A way in as many processes as it has workers.

    Raises:
        SystemExit: a process failed; its last words are shown.
    """
    logs = [Path(f"{way.out}.{rank}.log") for rank in range(way.workers)]
    with ExitStack() as stack:
        running = [
            subprocess.Popen(
                [sys.executable, __file__, json.dumps(asdict(way)), str(rank)],
                env=_environment(way, rank),
                stdout=stack.enter_context(open(log, "w")),
                stderr=subprocess.STDOUT,
            )
            for rank, log in enumerate(logs)
        ]
        while any(process.poll() is None for process in running):
            # The others would wait for one that is gone.
            if any(process.poll() for process in running):
                for process in running:
                    process.kill()
            time.sleep(0.2)
    failed = [rank for rank, process in enumerate(running) if process.returncode]
    if failed:
        raise SystemExit(f"{way.name}: worker {failed[0]} failed\n{logs[failed[0]].read_text()[-3000:]}")
    return Result(**json.loads(Path(way.out).read_text()))


def _environment(way: Way, rank: int) -> dict[str, str]:
    environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(way.workers)}
    if way.device == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        return {**environment, "CUDA_VISIBLE_DEVICES": visible[rank] if visible != [""] else str(rank)}
    return {**environment, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}


def work(way: Way, rank: int) -> None:
    """What one process does."""
    recipe = way.recipe
    quiet_transformers()
    import torch
    import torch.distributed as dist

    from koala_ray.train.engine import build_engine, deepspeed_config
    from koala_ray.train.guards import Guards, arm
    from koala_ray.train.loop import take_step
    from koala_ray.train.model import load_model

    gpu = way.device == "cuda"
    if not gpu:
        torch.set_num_threads(1)
    settings = recipe.train
    meeting = f"file://{way.out}.meeting"
    dist.init_process_group("nccl" if gpu else "gloo", init_method=meeting, rank=rank, world_size=way.workers)
    engine = build_engine(load_model(way.model, settings, recipe.lora, deepspeed_config(settings)), settings)
    gate = arm(engine, Guards(recipe.guards), way.out)
    apart, erased = isolation(engine, way)
    losses, seconds, tokens = [], [], []
    plan, reader = read_plan(way.rows), ShardReader(way.rows)
    for step in range(way.steps):
        whole = [gidx % plan.rows for gidx in range(step * settings.batch_rows, (step + 1) * settings.batch_rows)]
        share = settings.batch_rows // way.workers
        table = reader.table(whole[rank * share : (rank + 1) * share])
        started = time.perf_counter()
        taken = take_step(engine, table, recipe, step, settings.lr, int(plan.learnt[whole].sum()), gate)
        gate.incident()
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        losses.append(taken.loss)
        tokens.append(int(plan.tokens[whole].sum()))
    if rank == 0:
        peak = torch.cuda.max_memory_allocated() if gpu else 0
        name = torch.cuda.get_device_name() if gpu else "cpu"
        result = Result(losses, seconds, tokens, peak, apart, erased, name)
        Path(way.out).write_text(json.dumps(asdict(result)))
    dist.barrier()
    dist.destroy_process_group()


def isolation(engine: Any, way: Way) -> tuple[float, float]:
    """How far the tokens' losses in a packed row are from those alone: as it is cut, and with its borders erased."""
    import pyarrow as pa
    import torch

    from koala_ray.train.batch import micro_batch

    row = next((row for row in _rows(way) if len(row["lengths"][0].as_py()) > 1), None)
    if row is None:
        raise SystemExit(f"no packed row of {way.context} tokens holds two dialogues: give a longer --context")
    packed = micro_batch(row).to(engine.device)
    engine.eval()
    with torch.no_grad():
        together = engine(packed, each=True)
        alone = torch.cat([engine(micro_batch(one).to(engine.device), each=True) for one in _dialogues(row)])
        merged = row.set_column(
            row.schema.get_field_index("lengths"), "lengths", pa.array([[sum(packed.dialogue_lengths)]])
        )
        leaked = engine(micro_batch(merged).to(engine.device), each=True)
    engine.train()
    return float((together - alone).abs().mean()), float((leaked - alone).abs().mean())


def _rows(way: Way) -> Iterator[Any]:
    reader = ShardReader(way.rows)
    return (reader.table([gidx]) for gidx in range(read_plan(way.rows).rows))


def _dialogues(row: Any) -> Iterator[Any]:
    """Each dialogue of a packed row as a row of its own."""
    import pyarrow as pa

    values, start = row.to_pylist()[0], 0
    for length in values["lengths"]:
        span = slice(start, start + length)
        one = {**values, "input_ids": values["input_ids"][span], "learn": values["learn"][span], "lengths": [length]}
        start += length
        yield pa.Table.from_pylist([one], schema=row.schema)


if __name__ == "__main__":
    told, own_rank = sys.argv[1:]
    set_switches()
    work(Way(**json.loads(told)), int(own_rank))
