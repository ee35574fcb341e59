"""Check training on this machine's GPUs: bfloat16, a random Llama of 1–3B parameters, ZeRO 2 and 3, Liger on and off.

One process for each GPU runs what a Ray Train worker runs: the model with isolated attention (torch's variable-length
attention on a GPU), the DeepSpeed engine, the loop's steps. Printed for each way: tokens/s, MFU and the peak memory
beside the plan's. The check fails (exit status 1) where
- a dialogue's losses in a packed row differ from those it has alone, measured by what erasing the borders does;
- a loss is not finite, or the ways' losses differ;
- the peak memory is more than 15 % off the plan's.

Without a GPU it ends with status 2. --device cpu --model tiny runs the same path in float32, the memory apart.
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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measure import markdown
from rows import make_rows

from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.tokens.shards import ShardReader, read_plan

SIZES = {
    # hidden, intermediate, layers, heads, key-value heads
    "1b": (2048, 5632, 22, 32, 4),
    "3b": (3072, 8192, 28, 24, 8),
}
BASE = "smollm2-135m"
"""Whose tokenizer the random models have."""
WARMUP = 2
"""Steps before the clock runs: kernels are compiled, buffers grow."""
SAME_LOSS = {"float32": 1e-4, "bfloat16": 2e-2}
"""How far the ways' losses may be apart, relative to the loss."""
ISOLATED = 0.2
"""How far the tokens' losses in a packed row may be from those alone, as a part of what erasing the borders does."""
MEMORY_OFF = 0.15
NO_GPU, MISMATCH = 2, 1


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


# ── one worker ──────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── all ways ────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(way: Way) -> Result:
    """A way in as many processes as it has workers.

    Raises:
        SystemExit: a process failed; its last words are shown.
    """
    logs = [Path(f"{way.out}.{rank}.log") for rank in range(way.workers)]
    with ExitStack() as stack:
        running = [
            subprocess.Popen(
                [sys.executable, __file__, "--work", json.dumps(asdict(way)), "--rank", str(rank)],
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


@dataclass(frozen=True)
class Planned:
    """What the plan says of a way."""

    peak_bytes: float
    """On a GPU, CUDA's context left out: torch doesn't count it as allocated."""
    flops_per_token: float
    peak_flops: float | None


def planned(way: Way, result: Result) -> Planned:
    """The plan's figures for a way."""
    from koala_ray.plan.flops import attended_positions, flops_per_token, peak_flops
    from koala_ray.plan.hardware import GIGA, assumption
    from koala_ray.plan.memory import footprint
    from koala_ray.plan.shape import shape_of
    from koala_ray.plan.workload import dialogue_lengths

    recipe = way.recipe
    shape = shape_of(way.model)
    context = assumption("gpu_context_gb").value * GIGA if way.device == "cuda" else 0.0
    flops = flops_per_token(shape, attended_positions(dialogue_lengths(way.rows)), recipe.lora)
    device = peak_flops(result.device, recipe.train.precision)
    return Planned(
        peak_bytes=footprint(shape, recipe, way.zero).peak - context,
        flops_per_token=flops,
        peak_flops=device * way.workers if device else None,
    )


def mismatches(found: Sequence[tuple[Way, Result, Planned]]) -> list[str]:
    """What is wrong, in words; empty if all is well."""
    import math

    wrong = []
    reference = found[0][1].losses
    for way, result, plan in found:
        precision = way.recipe.train.precision
        if not all(map(math.isfinite, result.losses)):
            wrong.append(f"{way.name}: a loss is not finite: {result.losses}")
            continue
        if not result.apart < ISOLATED * result.erased:
            wrong.append(
                f"{way.name}: losses in a packed row are {result.apart:.2g} off those alone, "
                f"where erasing the borders makes {result.erased:.2g}"
            )
        off = max(abs(own - other) / abs(other) for own, other in zip(result.losses, reference, strict=True))
        if not off <= SAME_LOSS[precision]:
            wrong.append(f"{way.name}: its losses are {off:.2%} off those of {found[0][0].name}")
        if result.peak_bytes and abs(result.peak_bytes / plan.peak_bytes - 1) > MEMORY_OFF:
            wrong.append(
                f"{way.name}: {result.peak_bytes / 1e9:.1f} GB at most, the plan says {plan.peak_bytes / 1e9:.1f}"
            )
    return wrong


def table(found: Sequence[tuple[Way, Result, Planned]]) -> str:
    """The figures as Markdown."""
    lines = []
    for way, result, plan in found:
        seconds = statistics.median(result.seconds[WARMUP:])
        speed = statistics.median(result.tokens[WARMUP:]) / seconds
        mfu = speed * plan.flops_per_token / plan.peak_flops if plan.peak_flops else None
        lines.append(
            [
                way.name,
                f"{speed:,.0f}",
                f"{seconds:.3f}",
                f"{mfu:.1%}" if mfu else "",
                f"{result.peak_bytes / 1e9:.2f}" if result.peak_bytes else "",
                f"{plan.peak_bytes / 1e9:.2f}",
                f"{result.losses[0]:.4f}",
                f"{result.losses[-1]:.4f}",
                f"{result.apart:.1e}",
                f"{result.erased:.1e}",
            ]
        )
    head = ["way", "tokens/s", "s a step", "MFU", "peak GB", "planned GB", "loss, first", "last", "packed", "erased"]
    return markdown(head, lines)


def build_model(size: str, folder: Path) -> str:
    """A folder with a random Llama of a size, in bfloat16, with SmolLM2's tokenizer; ``tiny`` is bundled."""
    if size not in SIZES:
        return size
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from koala_ray.models.resolve import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve(BASE))
    hidden, intermediate, layers, heads, key_value_heads = SIZES[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    network: Any = LlamaForCausalLM(config)
    network.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def ways(options: argparse.Namespace, model: str, folder: Path, rows: str) -> list[Way]:
    """ZeRO 2 and 3, each with koala-ray's own loss and, on a GPU where it is installed, with Liger's."""
    first = Way(
        model=model,
        rows=rows,
        out="",
        device=options.device,
        workers=options.workers,
        zero=2,
        loss="chunked",
        context=options.context,
        steps=WARMUP + options.steps,
        micro_rows=options.micro_rows,
        accumulation=options.accumulation,
        checkpointing=options.checkpointing,
    )
    losses = ["chunked"]
    if options.device == "cuda" and find_spec("liger_kernel"):
        losses.append("liger")
    return [
        replace(first, zero=zero, loss=loss, out=str(folder / f"zero{zero}-{loss}.json"))
        for zero in (2, 3)
        for loss in losses
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--model", choices=["tiny", *SIZES], default="1b")
    parser.add_argument("--workers", type=int, help="processes; one for each GPU when left out")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--micro-rows", type=int, default=2)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="steps after those that warm up")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    set_switches()
    if options.work:
        work(Way(**json.loads(options.work)), options.rank)
        return
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: torch finds no CUDA GPU here; --device cpu --model tiny tries the same path", file=sys.stderr)
        sys.exit(NO_GPU)
    quiet_transformers()
    options.workers = options.workers or (torch.cuda.device_count() if options.device == "cuda" else 1)
    with tempfile.TemporaryDirectory(prefix="koala-ray-gpu-check-") as scratch:
        folder = Path(scratch)
        model = build_model(options.model, folder / "model")
        rows = make_rows(folder / "rows", model, options.context, None, Fraction(1))
        print(f"{options.model}, {options.workers} workers, {options.device}, torch {torch.__version__}")
        a_worker = f"{options.micro_rows} × {options.accumulation} of them a step and worker"
        print(f"{rows.packs} packed rows of {options.context} tokens, {a_worker}\n")
        found = []
        for way in ways(options, model, folder, rows.folder):
            result = run(way)
            found.append((way, result, planned(way, result)))
        print(table(found))
        wrong = mismatches(found)
    if options.device == "cuda" and not find_spec("liger_kernel"):
        print("\nLiger is not installed: not checked (pip install liger-kernel)")
    if wrong:
        print("\n" + "\n".join(f"mismatch: {line}" for line in wrong))
        sys.exit(MISMATCH)
    print("\nall is well")


if __name__ == "__main__":
    main()
