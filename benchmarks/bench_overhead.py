"""What Ray adds to a training step: the product's own runs against bare loops over the same packs, in one run.

through Ray:  koala_ray.train.step.train: Ray Train's workers, rows through Ray Data, guards, metrics.
DeepSpeed:    the same engine and the same step in as many plain processes, rows read before the loop.
plain torch:  the same model, AdamW and clipping, without DeepSpeed; gradients are summed over the processes by hand.

Rounds in turn, each a fresh run; a round's first steps warm up. The data wait is what metrics.jsonl says: the part of
a step's wall time that a worker waited for its rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corpus import default_data
from measure import machine_line, markdown

from koala_ray import storage
from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.tokens.shards import ShardReader, read_plan

WARMUP = 2
"""Steps of each round that aren't counted."""
WAYS = ("through Ray", "DeepSpeed", "plain torch")


@dataclass(frozen=True)
class Bare:
    """What the processes of a bare loop are told."""

    way: str
    recipe: dict[str, Any]
    rows: str
    steps: int
    meeting: str


@dataclass
class Measured:
    """The steps of all rounds of a way."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of the last round."""


def settings(options: argparse.Namespace, workers: int) -> Recipe:
    """The recipe of both: no evaluation, no checkpoint before the end."""
    threads = len(os.sched_getaffinity(0)) // workers
    return load_recipe(
        options.recipe,
        [
            f"train.workers={workers}",
            f"train.cpus_per_worker={max(1, threads)}",
            f"train.batch_rows={options.batch_rows}",
            "train.micro_rows=1",
            f"train.zero_stage={options.zero}",
            f"train.max_steps={options.steps + WARMUP}",
            "train.checkpoint_every=0",
            "train.heldout_rows=0",
            "train.samples=0",
        ],
        str(options.data) if options.data.is_dir() else None,
    )


# ── the ways ────────────────────────────────────────────────────────────────────────────────────────────────────────


def through_ray(recipe: Recipe, tokens: Any, out: str) -> tuple[list[float], list[float], list[float]]:
    """One run of the product: seconds, data wait and loss of each step."""
    from koala_ray.train.step import train

    result, _ = train(recipe, tokens, out)
    lines = storage.read_bytes(storage.join(result.folder, "metrics.jsonl")).decode().splitlines()
    steps = [record for record in map(json.loads, lines) if record["kind"] == "step"]
    return (
        [record["seconds"] for record in steps],
        [record["data_wait"] for record in steps],
        [record["loss"] for record in steps],
    )


def bare(way: str, recipe: Recipe, rows: str, out: str) -> tuple[list[float], list[float], list[float]]:
    """One bare loop in as many processes as the recipe has workers: seconds, nothing waited, and loss of each step."""
    workers = recipe.train.workers
    told = Bare(way, recipe.model_dump(mode="json"), rows, recipe.train.max_steps, f"{out}.meeting")
    threads = str(int(recipe.train.cpus_per_worker))
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--bare", json.dumps(asdict(told))],
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(workers),
                "OMP_NUM_THREADS": threads,
                "DS_ACCELERATOR": "cpu",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(workers)
    ]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{way}: a process failed")
    figures = json.loads(said[0].splitlines()[-1])
    return figures["seconds"], [0.0] * len(figures["seconds"]), figures["losses"]


def loop(told: Bare) -> None:
    """What a process of a bare loop does."""
    import torch
    import torch.distributed as dist

    from koala_ray.train.engine import deepspeed_config
    from koala_ray.train.model import load_model

    recipe = Recipe(**told.recipe)
    train = recipe.train
    torch.set_num_threads(int(train.cpus_per_worker))
    torch.manual_seed(train.seed)
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", init_method=f"file://{told.meeting}", rank=rank, world_size=train.workers)
    model = load_model(recipe.model.base, train, recipe.lora, deepspeed_config(train))
    plan, reader, share = read_plan(told.rows), ShardReader(told.rows), train.batch_rows // train.workers
    learnt = plan.per_step(plan.learnt, train.batch_rows).tolist()
    tables = [
        reader.table(range(step * train.batch_rows + rank * share, step * train.batch_rows + (rank + 1) * share))
        for step in range(told.steps)
    ]
    step_of = _with_deepspeed(model, recipe) if told.way == "DeepSpeed" else _with_torch(model, recipe)
    seconds, losses = [], []
    for step, table in enumerate(tables):
        started = time.perf_counter()
        losses.append(step_of(step, table, learnt[step]))
        seconds.append(time.perf_counter() - started)
    dist.barrier()
    dist.destroy_process_group()
    print(json.dumps({"seconds": seconds, "losses": losses}))


def _rate(recipe: Recipe, step: int) -> float:
    from koala_ray.train.schedule import learning_rate

    train = recipe.train
    return learning_rate(step, train.max_steps, train.lr, train.warmup_steps, train.lr_floor, train.schedule)


def _with_deepspeed(model: Any, recipe: Recipe) -> Callable[[int, Any, int], float]:
    from koala_ray.train.engine import build_engine
    from koala_ray.train.guards import Guards, arm
    from koala_ray.train.loop import take_step

    engine = build_engine(model, recipe.train)
    gate = arm(engine, Guards(recipe.guards), "")

    def step_of(step: int, table: Any, learnt: int) -> float:
        taken = take_step(engine, table, recipe, step, _rate(recipe, step), learnt, gate)
        gate.incident()
        return taken.loss

    return step_of


def _with_torch(model: Any, recipe: Recipe) -> Callable[[int, Any, int], float]:
    import torch
    import torch.distributed as dist

    from koala_ray.train.batch import micro_batch
    from koala_ray.train.engine import build_optimizer

    train = recipe.train
    optimizer = build_optimizer(model, train)
    model.train()

    def step_of(step: int, table: Any, learnt: int) -> float:
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, step)
        total = torch.zeros(())
        for micro in range(train.accumulation):
            loss = model(micro_batch(table.slice(micro * train.micro_rows, train.micro_rows)))
            (loss / learnt).backward()
            total += loss.detach()
        if train.workers > 1:
            for weight in model.parameters():
                dist.all_reduce(weight.grad)
            dist.all_reduce(total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip)
        optimizer.step()
        optimizer.zero_grad()
        return float(total) / learnt

    return step_of


# ── side by side ────────────────────────────────────────────────────────────────────────────────────────────────────


def measure(options: argparse.Namespace, workers: int, folder: Path) -> str:
    """The table of so many workers."""
    from koala_ray.prepare import prepare

    recipe = settings(options, workers)
    tokens, _ = prepare(recipe, str(folder))
    rows = storage.join(tokens.folder, "train")
    found = {way: Measured() for way in options.ways}
    for turn in range(options.rounds):
        for way, measured in found.items():
            out = str(folder / f"{way.replace(' ', '-')}-{workers}-{turn}")
            taken = through_ray(recipe, tokens, out) if way == "through Ray" else bare(way, recipe, rows, out)
            seconds, waited, measured.losses = taken
            measured.seconds += seconds[WARMUP:]
            measured.waited += waited[WARMUP:]
    return table(found)


def table(found: dict[str, Measured]) -> str:
    """The figures as Markdown; each way is held against the bare loops."""
    medians = {way: statistics.median(measured.seconds) for way, measured in found.items()}
    lines = []
    for way, measured in found.items():
        against = [f"{medians[way] / medians[other] - 1:+.1%}" if other in medians else "" for other in WAYS[1:]]
        lines.append(
            [
                way,
                f"{medians[way]:.3f} ({min(measured.seconds):.3f}–{max(measured.seconds):.3f})",
                *against,
                f"{sum(measured.waited) / sum(measured.seconds):.2%}" if way == "through Ray" else "",
                f"{1e3 * statistics.median(measured.waited):.1f}" if way == "through Ray" else "",
                f"{measured.losses[-1]:.5f}",
            ]
        )
    head = [
        "way",
        "seconds a step (min–max)",
        "to DeepSpeed",
        "to plain torch",
        "data wait",
        "median wait, ms",
        "last loss",
    ]
    return markdown(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="koala-smol")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--batch-rows", type=int, default=2)
    parser.add_argument("--zero", type=int, choices=[0, 1, 2], default=0, help="DeepSpeed's ZeRO stage")
    parser.add_argument("--steps", type=int, default=10, help="steps of a round, besides those that warm up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with real rows")
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    set_switches()
    if options.bare:
        quiet_transformers()
        loop(Bare(**json.loads(options.bare)))
        return
    print(machine_line("torch", "deepspeed", "ray"), f"recipe {options.recipe}", sep=", ")
    for workers in options.workers:
        with tempfile.TemporaryDirectory(prefix="koala-ray-bench-") as scratch:
            found = measure(options, workers, Path(scratch))
            print(f"\n{workers} workers, {options.batch_rows} packed rows a step, ZeRO-{options.zero}\n\n{found}")


if __name__ == "__main__":
    main()
