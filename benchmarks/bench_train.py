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
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
from corpus import default_data
from measure import machine_line, markdown
from rows import Rows, make_rows

from koala_ray.models.resolve import resolve
from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.tokens.shards import ShardReader

AXOLOTL = "Axolotl"
WAYS = ("koala-ray", "TRL packed", "TRL padded")
MODELS = ("llama-17m", "smollm2-135m")
BASE = "smollm2-135m"
"""Whose tokenizer both models have."""
LR, BETAS, CLIP = 1e-4, (0.9, 0.95), 1.0
IGNORED = -100
COMPARED_ROWS = 2
"""Packed rows whose loss all ways state before they train."""


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


@dataclass(frozen=True)
class Work:
    """What a way's process is told."""

    way: str
    model: str
    rows: str
    """The folder of the packed rows."""
    context: int
    batch_rows: int
    dialogues: int
    """Dialogues in a padded batch."""
    steps: int
    threads: int


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


def recipe_of(work: Work) -> Recipe:
    """koala-ray's settings for a piece of work."""
    return load_recipe(
        "tiny",
        [
            f"model.base={work.model}",
            f"tokens.context={work.context}",
            f"train.batch_rows={work.batch_rows}",
            "train.micro_rows=1",
            f"train.lr={LR}",
            "train.schedule=constant",
            "train.warmup_steps=0",
            f"train.clip={CLIP}",
        ],
    )


def tables(work: Work) -> list[pa.Table]:
    """The packed rows of each step."""
    reader = ShardReader(work.rows)
    size = work.batch_rows
    return [reader.table(range(step * size, (step + 1) * size)) for step in range(work.steps)]


# ── the ways, each in a process of its own ──────────────────────────────────────────────────────────────────────────


def koala(work: Work, turn: Callable[[], None], say: Callable[..., None]) -> None:
    """koala-ray's own path, without Ray."""
    import torch

    from koala_ray.train.batch import micro_batch
    from koala_ray.train.engine import build_engine, deepspeed_config
    from koala_ray.train.guards import Guards, arm
    from koala_ray.train.loop import take_step
    from koala_ray.train.model import load_model

    recipe = recipe_of(work)
    say(imported=resident())
    with alone():
        model = load_model(work.model, recipe.train, recipe.lora, deepspeed_config(recipe.train))
        engine = build_engine(model, recipe.train)
        gate = arm(engine, Guards(recipe.guards), "")
        batch = micro_batch(ShardReader(work.rows).table(range(COMPARED_ROWS)))
        with torch.no_grad():
            say(apart=_isolated(model, batch))
            say(first_loss=float(engine(batch)) / len(batch.targets))
        for step, rows in enumerate(tables(work)):
            turn()
            started, busy = time.perf_counter(), time.process_time()
            learnt = sum(rows["learnt"].to_pylist())
            loss = take_step(engine, rows, recipe, step, LR, learnt, gate).loss
            gate.incident()
            seconds, busy = time.perf_counter() - started, time.process_time() - busy
            tokens = len(rows["input_ids"].combine_chunks().flatten())
            say(step={"seconds": seconds, "cpu": busy, "tokens": tokens, "learnt": learnt, "loss": loss})


def _isolated(model: Any, batch: Any) -> float:
    """How far the logits of a micro-batch's second dialogue are from those it has alone."""
    import torch

    def logits(ids: torch.Tensor, positions: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
        return model.causal(ids, position_ids=positions, dialogue_lengths=lengths, use_cache=False).logits[0]

    first, second = batch.dialogue_lengths[:2]
    span = slice(first, first + second)
    together = logits(batch.input_ids, batch.position_ids, batch.dialogue_lengths)[span]
    apart = logits(batch.input_ids[:, span], batch.position_ids[:, span], (second,))
    return float((together - apart).abs().max())


@contextmanager
def alone() -> Iterator[None]:
    """A process group of this process, as DeepSpeed needs one."""
    import torch.distributed as dist

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    with tempfile.NamedTemporaryFile() as meeting:
        dist.init_process_group("gloo", init_method=f"file://{meeting.name}.group", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def trl(work: Work, turn: Callable[[], None], say: Callable[..., None]) -> None:
    """TRL's SFTTrainer, held up by a callback before each step."""
    import logging

    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    logging.getLogger("trl").setLevel(logging.ERROR)
    say(imported=resident())
    packed = work.way == "TRL packed"
    per_step = work.batch_rows if packed else work.dialogues
    data: list[dict[str, Any]] = []
    reader, place = ShardReader(work.rows), 0
    while len(data) < work.steps * per_step:
        row = reader.table([place]).to_pylist()[0]
        data += [as_trl(row)] if packed else as_dialogues(row)
        place += 1
    with tempfile.TemporaryDirectory(prefix="koala-ray-bench-") as temporary:
        config = SFTConfig(
            output_dir=temporary,
            packing=packed,
            packing_strategy="bfd",
            max_length=work.context,
            # A batch of packed rows is one long row to TRL; koala-ray takes them one by one.
            per_device_train_batch_size=1 if packed else per_step,
            gradient_accumulation_steps=per_step if packed else 1,
            max_steps=work.steps,
            learning_rate=LR,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            weight_decay=0.0,
            max_grad_norm=CLIP,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            dataset_kwargs={"skip_prepare_dataset": True},
            shuffle_dataset=False,
            train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )

        class Turns(TrainerCallback):
            """Waits before each step, and says what it took."""

            def __init__(self) -> None:
                self.started = self.busy = 0.0

            def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
                self._next()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self.seconds, self.cpu = time.perf_counter() - self.started, time.process_time() - self.busy
                control.should_log = True

            def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
                if "loss" not in logs:
                    return
                first = (state.global_step - 1) * per_step
                batch = data[first : first + per_step]
                say(
                    step={
                        "seconds": self.seconds,
                        "cpu": self.cpu,
                        "tokens": sum(len(row["input_ids"]) for row in batch),
                        "learnt": sum(label != IGNORED for row in batch for label in row["labels"]),
                        "loss": logs["loss"],
                    }
                )
                if state.global_step < state.max_steps:
                    self._next()

            def _next(self) -> None:
                turn()
                self.started, self.busy = time.perf_counter(), time.process_time()

        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(resolve(work.model), dtype=torch.float32),
            args=config,
            train_dataset=datasets.Dataset.from_list(data),
            processing_class=AutoTokenizer.from_pretrained(resolve(BASE)),
            callbacks=[Turns()],
        )
        compared = reader.table(range(COMPARED_ROWS)).to_pylist()
        rows = [one for row in compared for one in ([as_trl(row)] if packed else as_dialogues(row))]
        learnt = sum(label != IGNORED for row in rows for label in row["labels"])
        with torch.no_grad():
            if packed:
                say(apart=_apart(trainer, rows[0]))
            batch = trainer.data_collator(rows)
            say(first_loss=float(trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(learnt))))
        trainer.train()


def _apart(trainer: Any, row: dict[str, Any]) -> float:
    """How far the logits of a packed row's second dialogue are from those it has alone, by the trainer's own means."""
    import torch

    batch = trainer.data_collator([row])
    del batch["labels"]
    first, second = row["seq_lengths"][:2]
    span = slice(first, first + second)
    together = trainer.model(**batch, use_cache=False).logits[0, span]
    alone = trainer.model(input_ids=torch.tensor(row["input_ids"][span])[None], use_cache=False).logits[0]
    return float((together - alone).abs().max())


def as_trl(row: dict[str, Any]) -> dict[str, Any]:
    """A packed row as TRL's packing writes it."""
    labels = [token if learn else IGNORED for token, learn in zip(row["input_ids"], row["learn"], strict=True)]
    return {"input_ids": row["input_ids"], "labels": labels, "seq_lengths": row["lengths"]}


def as_dialogues(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A packed row's dialogues as TRL has them without packing."""
    whole, found, start = as_trl(row), [], 0
    for length in row["lengths"]:
        found.append({name: whole[name][start : start + length] for name in ("input_ids", "labels")})
        start += length
    return found


def write_dialogues(work: Work, file: Path) -> Path:
    """The dialogues of the first packed rows as Axolotl reads them: half as many rows again as it needs."""
    rows = ShardReader(work.rows).table(range(work.steps * work.batch_rows * 3 // 2)).to_pylist()
    with open(file, "w") as out:
        for row in rows:
            for one in as_dialogues(row):
                out.write(json.dumps({**one, "attention_mask": [1] * len(one["input_ids"])}) + "\n")
    return file


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def serve(work: Work, profile: bool) -> None:
    """Run a way in this process: a line on stdin is a turn, lines on stdout are its figures."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is none of the figures
    set_switches()
    import torch

    torch.set_num_threads(work.threads)
    quiet_transformers()

    def say(**figures: Any) -> None:
        if not profile:
            out.write(json.dumps(figures) + "\n")

    turns = Profiled(work, out).turn if profile else lambda: sys.stdin.readline()
    (koala if work.way == "koala-ray" else trl)(work, turns, say)
    say(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


class Profiled:
    """Turns without waiting; the third step is taken apart, then the process ends.

    On one thread and by the processor's clock, so that it doesn't matter what else the machine does.
    """

    def __init__(self, work: Work, out: TextIO) -> None:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(resolve(work.model))
        self._clock = op_clock(config.vocab_size, config.hidden_size)
        self._out, self._taken, self._started = out, 0, 0.0

    def turn(self) -> None:
        self._taken += 1
        if self._taken == 3:
            self._started = time.thread_time()
            self._clock.__enter__()
        if self._taken == 4:
            self._clock.__exit__(None, None, None)
            self._out.write(self._clock.table(time.thread_time() - self._started) + "\n")
            self._out.flush()
            os._exit(0)


def op_clock(vocabulary: int, hidden: int) -> Any:
    """A torch dispatch mode that adds up the time of each operation by the part of the step that it belongs to."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    # TRL cuts the vocabulary into tiles.
    wide = {vocabulary, 32768, vocabulary % 32768}

    def part_of(name: str, shapes: list[tuple[int, ...]]) -> str:
        product = name in ("mm", "addmm", "addmm_", "bmm") or "linear" in name
        if "adam" in name or "foreach" in name or name in ("linalg_vector_norm", "stack"):
            return "optimizer and clipping"
        if "scaled_dot_product" in name:
            return "attention"
        if any(wide & set(shape) for shape in shapes):
            if product:
                return "head: matrix products"
            of_weights = all(set(shape) <= wide | {hidden} for shape in shapes if len(shape) > 1)
            return "embedding and its gradient" if of_weights else "head: the rest"
        return "layers: matrix products" if product else "layers: the rest"

    class OpClock(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: dict[str, Counter[str]] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            started = time.thread_time()
            out = func(*args, **(kwargs or {}))
            taken = time.thread_time() - started
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if torch.is_tensor(leaf)]
            name = func.name().removeprefix("aten::").partition(".")[0]
            part = part_of(name, [tuple(tensor.shape) for tensor in tensors])
            self.seconds.setdefault(part, Counter())[name] += taken
            return out

        def table(self, total: float) -> str:
            lines = []
            for part, ops in sorted(self.seconds.items(), key=lambda item: -item[1].total()):
                most = ", ".join(f"{name} {taken:.2f}" for name, taken in ops.most_common(8) if taken >= 0.005)
                lines.append([part, f"{ops.total():.2f}", f"{ops.total() / total:.0%}", most])
            rest = total - sum(ops.total() for ops in self.seconds.values())
            lines.append(["Python, autograd, this clock", f"{rest:.2f}", f"{rest / total:.0%}", ""])
            head = ["part", "CPU s", "share", "operations"]
            return f"one step on one thread, {total:.2f} CPU s\n\n" + markdown(head, lines) + "\n"

    return OpClock()


# ── side by side ────────────────────────────────────────────────────────────────────────────────────────────────────


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
        command = [sys.executable, __file__, "--work", json.dumps(asdict(work))]
        if work.way == AXOLOTL:
            more = {"model": resolve(work.model), "lr": LR, "betas": BETAS, "clip": CLIP}
            file = write_dialogues(work, log.with_suffix(".jsonl"))
            told = {**asdict(work), **more, "dialogues_file": str(file)}
            command = [axolotl, str(Path(__file__).with_name("axolotl_steps.py")), json.dumps(told)]
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
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        serve(Work(**json.loads(options.work)), profile=options.profile is not None)
        return
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
                    command = [sys.executable, __file__, "--work", json.dumps(asdict(work)), "--profile", work.way]
                    subprocess.run(command, env=environment(1), check=True)
                    continue
                print(f"\n{name}, context {context}, {options.batch_rows} packed rows a step\n", flush=True)
                print(measure(rows, models[name], options, folder), flush=True)


if __name__ == "__main__":
    main()
