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
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu_ways import Result, Way, run
from measure import markdown
from rows import make_rows

from koala_ray.quiet import quiet_transformers, set_switches

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
    options = parser.parse_args()
    set_switches()
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
