"""Training side by side: the same rows, weights, optimizer, tokens a step and threads, in one run on the CPU.

koala-ray:   the DeepSpeed engine and the training loop's step on packed rows.
TRL packed:  SFTTrainer (packing, "bfd") on the very same packed rows.
TRL padded:  SFTTrainer on the dialogues of those rows, so many in a batch that it holds about as many tokens.
Axolotl:     with --axolotl PYTHON (see axolotl_steps.py): its own packing of the same dialogues.

Each way is a process of its own and holds its model the whole time; they take their steps in turn, so that what else
the machine does hits all alike. TRL: no gradient checkpointing and float32, its loss as it comes.

--profile WAY prints where a step's time goes instead.
TRL: pip install -r benchmarks/requirements.txt -c constraints.txt
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from corpus import default_data
from measure import machine_line, markdown
from rows import Rows, make_rows
from train_ways import BASE, BETAS, CLIP, LR, Work, as_dialogues

from koala_ray.models.resolve import resolve
from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.tokens.shards import ShardReader

AXOLOTL = "Axolotl"
WAYS = ("koala-ray", "TRL packed", "TRL padded")
MODELS = ("llama-17m", "smollm2-135m")
HERE = Path(__file__).parent


def build_small(folder: Path) -> str:
    """A Llama of about 17M parameters with SmolLM2's vocabulary and random weights."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(resolve(BASE))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@dataclass
class Taken:
    """One step of a way."""

    seconds: float
    cpu: float
    """Processor seconds of all threads: they hardly depend on what else runs, but count threads that wait."""
    tokens: int
    learnt: int
    loss: float


@dataclass
class Figures:
    """What a way's process said."""

    first_loss: float = 0.0
    """On the first packed rows, before training; 0 where it isn't known."""
    apart: float | None = None
    """How far the logits of a pack's second dialogue are from those it has alone."""
    imported: int = 0
    """Resident bytes before the model was loaded."""
    peak: int = 0
    steps: list[Taken] = field(default_factory=list)


def write_dialogues(work: Work, file: Path) -> Path:
    """The dialogues of the first packed rows as Axolotl reads them: half as many rows again as it needs."""
    rows = ShardReader(work.rows).table(range(work.steps * work.batch_rows * 3 // 2)).to_pylist()
    with open(file, "w") as out:
        for row in rows:
            for one in as_dialogues(row):
                out.write(json.dumps({**one, "attention_mask": [1] * len(one["input_ids"])}) + "\n")
    return file


def environment(threads: int) -> dict[str, str]:
    """The environment of a way's process."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "DS_ACCELERATOR": "cpu"}


def work_of(way: str, model: str, rows: Rows, options: argparse.Namespace, steps: int, threads: int) -> Work:
    """The work of a way; a padded batch holds about as many tokens as a step's packed rows."""
    dialogues = max(2, round(options.batch_rows * rows.tokens / rows.packs / rows.lengths.mean()))
    return Work(way, model, rows.folder, rows.context, options.batch_rows, dialogues, steps, threads)


class Process:
    """A way under way."""

    def __init__(self, work: Work, log: Path, axolotl: str) -> None:
        self.work, self.figures = work, Figures()
        command = [sys.executable, str(HERE / "train_ways.py"), json.dumps(asdict(work))]
        if work.way == AXOLOTL:
            more = {"model": resolve(work.model), "lr": LR, "betas": BETAS, "clip": CLIP}
            file = write_dialogues(work, log.with_suffix(".jsonl"))
            told = {**asdict(work), **more, "dialogues_file": str(file)}
            command = [axolotl, str(HERE / "axolotl_steps.py"), json.dumps(told)]
        self.running = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(log, "w"),  # noqa: SIM115
            text=True,
            env=environment(work.threads),
        )
        self.log = log

    def until(self, key: str) -> Any:
        """Take in what the process says, up to a figure."""
        assert self.running.stdout is not None
        for line in self.running.stdout:
            for name, value in json.loads(line).items():
                if name == "step":
                    self.figures.steps.append(Taken(**value))
                else:
                    setattr(self.figures, name, value)
                if name == key:
                    return value
        raise SystemExit(f"{self.work.way} ended early: {self.log.read_text()[-2000:]}")

    def step(self) -> None:
        """One step."""
        assert self.running.stdin is not None
        self.running.stdin.write("step\n")
        self.running.stdin.flush()
        self.until("step")


def measure(rows: Rows, model: str, options: argparse.Namespace, logs: Path) -> str:
    """The table of one model at one context."""
    steps = options.steps + 1
    processes = []
    for way in [*options.ways, *([AXOLOTL] if options.axolotl else [])]:
        work = work_of(way, model, rows, options, steps, options.threads)
        processes.append(Process(work, logs / f"{way}.log", options.axolotl))
        processes[-1].until("first_loss")
    for _ in range(steps):
        for process in processes:
            process.step()
    for process in processes:
        process.until("peak")
        process.running.wait()
    return table(processes)


def table(processes: list[Process]) -> str:
    """The figures as Markdown; the first step warms up."""
    lines = []
    ours = 0.0
    for process in processes:
        work, figures = process.work, process.figures
        taken = figures.steps[1:]
        rate = sum(step.learnt for step in taken) / sum(step.seconds for step in taken)
        ours = ours or rate
        seconds = [step.seconds for step in taken]
        lines.append(
            [
                work.way + (f", {work.dialogues} dialogues a step" if work.way == "TRL padded" else ""),
                f"{rate:,.0f}",
                f"{ours / rate:.2f}×",
                f"{statistics.median(step.learnt / step.seconds for step in taken):,.0f}",
                f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})",
                f"{statistics.median(step.cpu for step in taken):.2f}",
                f"{statistics.mean(step.tokens for step in taken):,.0f}",
                f"{figures.first_loss:.5f}" if figures.first_loss else "",
                f"{taken[-1].loss:.4f}",
                f"{figures.peak / 2**30:.2f}",
                f"{(figures.peak - figures.imported) / 2**30:.2f}",
                f"{figures.apart:.0e}" if figures.apart is not None else "",
            ]
        )
    head = [
        "way",
        "learnt tokens/s",
        "ours to it",
        "median of the steps",
        "seconds a step (min–max)",
        "CPU s a step",
        "tokens a step",
        "loss before",
        "loss of the last step",
        "peak GiB",
        "without imports",
        "packed to alone",
    ]
    return markdown(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--contexts", nargs="+", type=int, default=[1024, 512])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--batch-rows", type=int, default=2, help="packed rows in a step")
    parser.add_argument("--steps", type=int, default=6, help="steps after the one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with real rows")
    parser.add_argument("--part", type=Fraction, default=Fraction(1, 128), help="the part of the mixture's size")
    parser.add_argument("--axolotl", default="", help="a Python that has Axolotl (see axolotl_steps.py)")
    parser.add_argument("--profile", choices=WAYS, help="print where this way's time goes in one step")
    options = parser.parse_args()
    set_switches()
    quiet_transformers()
    print(machine_line("torch", "transformers", "deepspeed", "trl"), f"{options.threads} threads", sep=", ")
    data = options.data if options.data.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="koala-ray-bench-") as scratch:
        folder = Path(scratch)
        models = {"llama-17m": build_small(folder / "llama-17m"), "smollm2-135m": BASE}
        for context in options.contexts:
            rows = make_rows(folder / f"rows-{context}", BASE, context, data, options.part)
            print(f"\nContext {context}: {rows.line()}.", flush=True)
            for name in options.models:
                if options.profile:
                    print(f"\n{options.profile}, {name}: ", end="", flush=True)
                    work = work_of(options.profile, models[name], rows, options, steps=4, threads=1)
                    command = [sys.executable, str(HERE / "train_ways.py"), json.dumps(asdict(work)), "--profile"]
                    subprocess.run(command, env=environment(1), check=True)
                    continue
                print(f"\n{name}, context {context}, {options.batch_rows} packed rows a step\n", flush=True)
                print(measure(rows, models[name], options, folder), flush=True)


if __name__ == "__main__":
    main()
