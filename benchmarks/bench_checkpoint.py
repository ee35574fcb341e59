"""What a checkpoint costs: how long training waits, how long until it is safe, and how long going on takes.

koala-ray:  copies the state in memory, writes and commits it while training goes on.
DeepSpeed:  ``save_checkpoint`` of the same engine, which training waits for (no commit, no checksums).

One process, the same model and steps for both; each saves after every few steps. "Slower" is how much longer steps take
while a checkpoint is being written, against those when none is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import machine_line, markdown

from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.recipe import LoraSettings, TrainSettings

EVERY = 50
"""Steps between checkpoints that the stall is spread over."""


def start(base: str, settings: TrainSettings) -> Any:
    """The engine of the base model."""
    import torch
    import torch.distributed as dist

    from koala_ray.train.engine import build_engine, deepspeed_config
    from koala_ray.train.model import load_model

    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    torch.manual_seed(0)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return build_engine(load_model(base, settings, LoraSettings(), deepspeed_config(settings)), settings)


def step(engine: Any, tokens: int) -> float:
    """A training step's work on made-up ids; gives its seconds."""
    import torch

    from koala_ray.train.batch import MicroBatch

    began = time.perf_counter()
    ids = torch.randint(3, 1000, (1, tokens))
    predictors = torch.arange(0, tokens - 1, 2)
    batch = MicroBatch(ids, torch.arange(tokens)[None], (tokens,), predictors, ids[0][predictors + 1])
    engine.backward(engine(batch) / len(predictors))
    engine.step()
    return time.perf_counter() - began


def background(engine: Any, settings: TrainSettings, folder: str, options: argparse.Namespace) -> dict[str, float]:
    """Our checkpoints: stall, time to the commit, and the steps while they are written."""
    from koala_ray.checkpoint.restore import restore
    from koala_ray.checkpoint.saver import Saver

    told: list[dict[str, Any]] = []
    saver = Saver(engine, folder, settings, {}, patience=600, told=told.append)
    stalls, busy, idle = [], [], []
    for place in range(options.rounds + 1):
        idle += [step(engine, options.tokens) for _ in range(2)][1:]
        began = time.perf_counter()
        saver.save(place + 1, [], {})
        stalls.append(time.perf_counter() - began)
        while len(told) <= place:
            busy.append(step(engine, options.tokens))
    saver.finish()
    began = time.perf_counter()
    restored = restore(engine, folder, {}, print)
    assert restored.steps_taken == options.rounds + 1
    return {
        "stall": statistics.median(stalls[1:]),  # the first one also gets its memory
        "first": stalls[0],
        "safe": statistics.median(message["seconds"] for message in told[1:]),
        "slower": statistics.median(busy) / statistics.median(idle) - 1,
        "bytes": told[-1]["bytes"],
        "restore": time.perf_counter() - began,
        "step": statistics.median(idle),
    }


def waiting(engine: Any, folder: str, options: argparse.Namespace) -> dict[str, float]:
    """DeepSpeed's: training waits for all of it."""
    stalls = []
    for place in range(options.rounds + 1):
        step(engine, options.tokens)
        began = time.perf_counter()
        engine.save_checkpoint(folder, tag=f"step-{place}")
        stalls.append(time.perf_counter() - began)
        if place:
            shutil.rmtree(Path(folder, f"step-{place - 1}"))
    size = sum(file.stat().st_size for file in Path(folder, f"step-{options.rounds}").rglob("*"))
    began = time.perf_counter()
    engine.load_checkpoint(folder, tag=f"step-{options.rounds}")
    stall = statistics.median(stalls[1:])
    return {
        "stall": stall, "first": stalls[0], "safe": stall, "slower": 0.0, "bytes": size,
        "restore": time.perf_counter() - began, "step": float("nan"),
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--zero", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=1024, help="tokens in a step")
    parser.add_argument("--rounds", type=int, default=5, help="checkpoints after the one that warms up")
    parser.add_argument("--out", type=Path, help="a folder on the disk to write to")
    options = parser.parse_args()
    set_switches()
    os.environ["DS_ACCELERATOR"] = "cpu"
    import torch

    quiet_transformers()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    settings = TrainSettings(batch_rows=1, zero_stage=options.zero, keep_checkpoints=1)
    engine = start(options.base, settings)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        ours = background(engine, settings, f"{folder}/ours", options)
        theirs = waiting(engine, f"{folder}/theirs", options)
    print(
        machine_line("torch", "deepspeed") + f", {options.base}, ZeRO-{options.zero}, {options.tokens} tokens a step\n"
    )
    interval = EVERY * ours["step"]
    rows = [
        [
            name,
            f"{found['stall']:.2f} s",
            f"{found['first']:.2f} s",
            f"{found['stall'] / (interval + found['stall']):.2%}",
            f"{found['safe']:.1f} s",
            f"{found['slower']:.0%}",
            f"{found['bytes'] / 1e9:.2f}",
            f"{found['restore']:.1f} s",
        ]
        for name, found in (("koala-ray", ours), ("DeepSpeed's save_checkpoint", theirs))
    ]
    head = ["way", "training waits", "the first time", f"of {EVERY} steps", "safe after", "steps slower meanwhile"]
    print(markdown([*head, "GB", "loading"], rows))


if __name__ == "__main__":
    main()
