"""The ways that bench_train.py compares, each in a process of its own: a step for each line on stdin.

What a step took, and at the end the peak memory, go to stdout as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from koala_ray.models.resolve import resolve
from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.tokens.shards import ShardReader

BASE = "smollm2-135m"
"""Whose tokenizer all models have."""
LR, BETAS, CLIP = 1e-4, (0.9, 0.95), 1.0
IGNORED = -100
COMPARED_ROWS = 2
"""Packed rows whose loss all ways state before they train."""


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


def koala(work: Work, turn: Callable[[], object], say: Callable[..., None]) -> None:
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


def trl(work: Work, turn: Callable[[], object], say: Callable[..., None]) -> None:
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

            def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if "loss" not in kwargs["logs"]:
                    return
                first = (state.global_step - 1) * per_step
                batch = data[first : first + per_step]
                say(
                    step={
                        "seconds": self.seconds,
                        "cpu": self.cpu,
                        "tokens": sum(len(row["input_ids"]) for row in batch),
                        "learnt": sum(label != IGNORED for row in batch for label in row["labels"]),
                        "loss": kwargs["logs"]["loss"],
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

    run = koala if work.way == "koala-ray" else trl
    if profile:
        from op_clock import Profiled
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(resolve(work.model))
        profiled = Profiled(config.vocab_size, config.hidden_size)
        run(work, profiled.turn, say)
        out.write(profiled.table)
        return
    run(work, lambda: bool(sys.stdin.readline()), say)
    say(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", help="the fields of Work, as JSON")
    parser.add_argument("--profile", action="store_true", help="print where a step's time goes")
    given = parser.parse_args()
    serve(Work(**json.loads(given.work)), given.profile)
