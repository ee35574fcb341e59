"""The training loop of one worker: read, forward, backward, step; evaluate, report, checkpoint.

:func:`run` is the loop itself and knows nothing of Ray; :mod:`koala_ray.train.worker` calls it under Ray Train.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist

from koala_ray.recipe import TrainSettings
from koala_ray.train.batch import micro_batch
from koala_ray.train.loss import backward_scale, learnt_loss_sum
from koala_ray.train.schedule import learning_rate


@dataclass(frozen=True)
class Job:
    """What the loop has to do."""

    settings: TrainSettings
    first_step: int
    last_step: int
    learnt: list[int]
    """Learnt tokens of each global batch of the run."""
    tokens: list[int]
    """Tokens of each global batch of the run."""
    heldout: list[pa.Table]
    """This worker's held-out micro-batches; each worker has as many."""


@dataclass(frozen=True)
class Step:
    """What is known after a step; the same on every worker."""

    step: int
    """Steps taken so far."""
    loss: float
    """Mean loss per learnt token of the global batch, before the step."""
    lr: float
    grad_norm: float
    tokens: int
    learnt: int
    seconds: float
    heldout_loss: float | None = None
    """Mean loss per learnt held-out token, where this step was evaluated."""


def run(
    engine: Any,
    job: Job,
    batches: Iterable[tuple[int, pa.Table]],
    on_step: Callable[[Step], None],
    on_evaluation: Callable[[int, float], None] = lambda step, loss: None,
    checkpoint: Callable[[int], None] = lambda step: None,
) -> None:
    """Take the steps from ``job.first_step`` up to ``job.last_step``.

    Args:
        engine: the DeepSpeed engine.
        job: what to do.
        batches: each step with this worker's packed rows for it, in order.
        on_step: called after each step.
        on_evaluation: called with (steps taken, held-out loss) before the first step of a fresh run.
        checkpoint: called with the steps taken, after the last step and every ``checkpoint_every``.

    Raises:
        RuntimeError: the batches end before the steps do.
    """
    settings = job.settings
    if job.first_step == 0 and job.heldout:
        on_evaluation(0, evaluate(engine, job.heldout))
    taken = job.first_step
    for step, rows in _until(job, batches):
        started = time.monotonic()
        taken = step + 1
        lr = learning_rate(step, job.last_step, settings.lr, settings.warmup_steps, settings.lr_floor)
        loss, grad_norm = take_step(engine, rows, settings, lr, job.learnt[step])
        seconds = time.monotonic() - started
        last = taken == job.last_step
        evaluated = last or (settings.evaluate_every and taken % settings.evaluate_every == 0)
        heldout_loss = evaluate(engine, job.heldout) if evaluated and job.heldout else None
        on_step(Step(taken, loss, lr, grad_norm, job.tokens[step], job.learnt[step], seconds, heldout_loss))
        if last or (settings.checkpoint_every and taken % settings.checkpoint_every == 0):
            checkpoint(taken)
    if taken != job.last_step:
        raise RuntimeError(f"the data ended after step {taken} of {job.last_step}")


def _until(job: Job, batches: Iterable[tuple[int, pa.Table]]) -> Iterator[tuple[int, pa.Table]]:
    for step, rows in batches:
        if step >= job.last_step:
            return
        yield step, rows


def take_step(engine: Any, rows: pa.Table, settings: TrainSettings, lr: float, learnt: int) -> tuple[float, float]:
    """One optimizer step on this worker's rows of a global batch.

    Returns:
        The global batch's mean loss per learnt token, and the gradient's global norm before clipping.
    """
    workers = dist.get_world_size()
    scale = backward_scale(workers, settings.accumulation, learnt)
    for group in engine.optimizer.param_groups:
        group["lr"] = lr
    total = torch.zeros((), dtype=torch.float64)
    engine.train()
    for micro in range(settings.accumulation):
        batch = micro_batch(rows.slice(micro * settings.micro_rows, settings.micro_rows)).to(engine.device)
        loss_sum = learnt_loss_sum(engine, batch)
        total += loss_sum.detach().double().cpu()
        engine.backward(loss_sum * scale)
        if micro == settings.accumulation - 1 and settings.zero_stage == 0:
            norm = torch.nn.utils.clip_grad_norm_(engine.module.parameters(), settings.clip)
        engine.step()
    if settings.zero_stage > 0:
        norm = engine.get_global_grad_norm()
    return sum_over_workers(total) / max(1, learnt), float(norm)


def evaluate(engine: Any, micro_batches: list[pa.Table]) -> float:
    """The mean loss per learnt token over all workers' held-out rows. Leaves the training state as it was."""
    sums = torch.zeros(2, dtype=torch.float64)
    engine.eval()
    with torch.no_grad():
        for rows in micro_batches:
            batch = micro_batch(rows).to(engine.device)
            sums[0] += learnt_loss_sum(engine, batch).double().cpu()
            sums[1] += len(batch.targets)
    engine.train()
    _all_reduce(sums)
    return float(sums[0] / sums[1].clamp(min=1))


def sum_over_workers(value: torch.Tensor) -> float:
    """The sum of a scalar over all workers."""
    _all_reduce(value)
    return float(value)


def _all_reduce(values: torch.Tensor) -> None:
    if dist.get_world_size() > 1:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        moved = values.to(device)
        dist.all_reduce(moved)
        values.copy_(moved)
