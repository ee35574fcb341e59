"""The training loop of one worker: read, forward, backward, step; evaluate, report, checkpoint.

:func:`run` is the loop itself and knows nothing of Ray; :mod:`koala_ray.train.worker` calls it under Ray Train.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist

from koala_ray.preempt.signals import Wish
from koala_ray.recipe import Recipe
from koala_ray.train.batch import micro_batch
from koala_ray.train.engine import clipped_by_the_loop
from koala_ray.train.guards import Gate
from koala_ray.train.loss import backward_scale
from koala_ray.train.reduce import sum_over_workers
from koala_ray.train.schedule import learning_rate

Record = dict[str, Any]
"""A line of a run's ``metrics.jsonl``."""


@dataclass(frozen=True)
class Job:
    """What the loop has to do."""

    recipe: Recipe
    first_step: int
    last_step: int
    learnt: list[int]
    """Learnt tokens of each global batch of the run."""
    tokens: list[int]
    """Tokens of each global batch of the run."""
    stop_at: float | None = None
    """The time (seconds since 1970) at which the money is spent: the run then writes a checkpoint and ends."""


@dataclass(frozen=True)
class Taken:
    """What is known of a step once it is taken; the same on every worker."""

    loss: float
    """Mean loss per learnt token of the global batch, before the step."""
    grad_norm: float
    """The gradient's global norm before clipping."""
    wish: Wish
    """What the first worker wishes that all do now."""


@dataclass(frozen=True)
class Ended:
    """How the loop ended."""

    steps_taken: int
    """In all, with those of earlier attempts."""
    wish: Wish
    """What ended it; nothing if all steps are taken."""


def run(
    engine: Any,
    job: Job,
    batches: Iterable[tuple[int, pa.Table]],
    gate: Gate,
    post: Callable[[Record], None],
    evaluate: Callable[[int], None] = lambda steps_taken: None,
    checkpoint: Callable[[int], None] = lambda steps_taken: None,
    commit_seconds: Callable[[], float] = lambda: 0.0,
    wish: Callable[[float], Wish] = lambda step_seconds: Wish.NOTHING,
) -> Ended:
    """Take the steps from ``job.first_step`` up to ``job.last_step``.

    Args:
        engine: the DeepSpeed engine.
        job: what to do.
        batches: each step with this worker's packed rows for it, in order.
        gate: judges each step before it is taken.
        post: called with each record.
        evaluate: called with the steps taken: before the first, every ``evaluate_every``, and after the last.
        checkpoint: called with the steps taken: every ``checkpoint_every``, and after the last.
        commit_seconds: what a checkpoint takes until it is committed, as far as known.
        wish: the first worker's wish, asked before each step with what the step before took; all act on it after.

    Raises:
        RuntimeError: the batches end before the steps do.
        KoalaError: a guard stops the run.
    """
    settings = job.recipe.train
    if job.first_step == 0:
        evaluate(0)
    taken, reading = job.first_step, iter(batches)
    seconds, stall = 0.0, 0.0
    while taken < job.last_step:
        started = time.monotonic()
        step, rows = next(reading, (-1, None))
        if rows is None:
            raise RuntimeError(f"the data ended after step {taken} of {job.last_step}")
        data_wait = time.monotonic() - started
        lr = learning_rate(
            step, job.last_step, settings.lr, settings.warmup_steps, settings.lr_floor, settings.schedule
        )
        # Neither this step nor the checkpoint after it may cost more than what is left.
        spent = job.stop_at is not None and time.time() + seconds + commit_seconds() >= job.stop_at
        wished = Wish.STOP if spent else wish(seconds)
        done = take_step(engine, rows, job.recipe, step, lr, job.learnt[step], gate, wished)
        taken = step + 1
        incident = gate.incident()
        if incident:
            post({"kind": "incident", "step": taken, **incident})
        gate.raise_if_stopped()
        seconds = time.monotonic() - started
        post(
            {
                "kind": "step",
                "step": taken,
                "loss": done.loss,
                "lr": lr,
                "grad_norm": done.grad_norm,
                "tokens": job.tokens[step],
                "learnt": job.learnt[step],
                "seconds": seconds,
                "data_wait": data_wait,
                "checkpoint_stall": stall,
            }
        )
        stall = 0.0
        last = taken == job.last_step
        if last or _due(taken, settings.evaluate_every):
            evaluate(taken)
        saves = done.wish in (Wish.SAVE, Wish.STOP, Wish.LEAVE) or _due(taken, settings.checkpoint_every)
        if last or (saves and done.wish is not Wish.FLEE):
            started = time.monotonic()
            checkpoint(taken)
            stall = time.monotonic() - started
        if done.wish > Wish.SAVE and not last:
            return Ended(taken, done.wish)
    return Ended(taken, Wish.NOTHING)


def _due(taken: int, every: int) -> bool:
    return bool(every) and taken % every == 0


def take_step(
    engine: Any,
    rows: pa.Table,
    recipe: Recipe,
    step: int,
    lr: float,
    learnt: int,
    gate: Gate,
    wish: Wish = Wish.NOTHING,
) -> Taken:
    """One optimizer step on this worker's rows of a global batch.

    Args:
        engine: the DeepSpeed engine.
        rows: this worker's packed rows.
        recipe: its ``train`` and ``lora`` parts are read.
        step: steps taken before this one.
        lr: the step's learning rate.
        learnt: learnt tokens of the whole global batch.
        gate: judges the step once its loss and gradient are known, before it is taken.
        wish: the first worker's; every worker learns of it.
    """
    settings = recipe.train
    scale = backward_scale(dist.get_world_size(), settings.accumulation, learnt)
    for group in engine.optimizer.param_groups:
        group["lr"] = lr
    sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
    sums[1] = wish if dist.get_rank() == 0 else 0
    engine.train()
    for micro in range(settings.accumulation):
        table = rows.slice(micro * settings.micro_rows, settings.micro_rows)
        if settings.dropout or recipe.lora.dropout:
            # By the rows and not by how often it was drawn before, so that a resumed run drops the same.
            torch.manual_seed(settings.seed * 1_000_003 + table["gidx"][0].as_py())
        loss_sum = engine(micro_batch(table).to(engine.device))
        sums[0] += loss_sum.detach()
        engine.backward(loss_sum * scale)
        if micro < settings.accumulation - 1:
            engine.step()
    loss_sum, wished = sum_over_workers(sums).tolist()
    loss = loss_sum / max(1, learnt)
    if clipped_by_the_loop(settings):
        grad_norm = float(torch.nn.utils.clip_grad_norm_(engine.module.parameters(), settings.clip))
        gate.expect(step, loss, rows, grad_norm)
        engine.step()
    else:
        gate.expect(step, loss, rows)
        engine.step()
        grad_norm = float(engine.get_global_grad_norm())
    return Taken(loss, grad_norm, Wish(int(wished)))
