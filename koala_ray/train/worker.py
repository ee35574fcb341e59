"""What each Ray Train worker does: build the engine, go on from the last checkpoint, run the loop, export."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from koala_ray import storage
from koala_ray.recipe import Recipe
from koala_ray.tokens.shards import read_plan


def train_worker(config: dict[str, Any]) -> None:
    """Ray Train's train loop.

    Args:
        config: ``recipe`` (as YAML-able values), ``tokens`` (the token step's folder), ``folder`` (the train
            step's), ``last_step``, ``board`` (see :mod:`koala_ray.train.board`).
    """
    recipe = Recipe(**config["recipe"])
    settings = recipe.train
    if not settings.gpus_per_worker:
        os.environ["DS_ACCELERATOR"] = "cpu"

    import ray.train
    import torch

    from koala_ray.checkpoint.export import export
    from koala_ray.checkpoint.state import restore, save
    from koala_ray.quiet import quiet_transformers
    from koala_ray.train.data import checked
    from koala_ray.train.engine import build_engine, load_model
    from koala_ray.train.loop import Job, Step, run

    quiet_transformers()
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    if not settings.gpus_per_worker:
        torch.set_num_threads(max(1, int(settings.cpus_per_worker)))
    torch.manual_seed(settings.seed)

    def post(kind: str, **values: Any) -> None:
        if rank == 0:
            config["board"].post.remote({"kind": kind, **values})

    post("phase", text="loading the model")
    engine = build_engine(load_model(recipe.model.base, settings), settings)
    first_step = restore(engine)
    plan = read_plan(storage.join(config["tokens"], "train"))
    job = Job(
        settings=settings,
        first_step=first_step,
        last_step=config["last_step"],
        learnt=plan.per_step(plan.learnt, settings.batch_rows).tolist(),
        tokens=plan.per_step(plan.tokens, settings.batch_rows).tolist(),
        heldout=heldout_share(storage.join(config["tokens"], "heldout"), rank, workers, settings.heldout_rows),
    )
    post("start", first_step=first_step)

    def on_step(step: Step) -> None:
        post("step", **asdict(step))

    def on_evaluation(steps_taken: int, loss: float) -> None:
        post("evaluation", step=steps_taken, heldout_loss=loss)

    def checkpoint(steps_taken: int) -> None:
        post("checkpoint", text=f"saving step {steps_taken}")
        save(engine, steps_taken, first_step, settings.batch_rows)

    if first_step < job.last_step:
        share = settings.batch_rows // workers
        batches = ray.train.get_dataset_shard("train").iter_batches(
            batch_size=share, batch_format="pyarrow", prefetch_batches=2
        )
        ordered = checked(batches, first_step, rank, workers, settings.batch_rows)
        run(engine, job, ordered, on_step, on_evaluation, checkpoint)
    post("phase", text="writing the model")
    export(engine, recipe.model.base, storage.join(config["folder"], "model"), settings.zero_stage)


def heldout_share(folder: str, rank: int, workers: int, limit: int) -> list[pa.Table]:
    """This worker's held-out rows, each a micro-batch; every worker gets as many.

    Rows beyond the last whole share are filled up with rows of weight zero, so that no worker waits in a
    collective for one that has nothing left to do.
    """
    from koala_ray.train.data import read_rows

    rows = read_plan(folder).rows
    used = min(rows, limit)
    shares = -(-used // workers)
    wanted = [gidx if gidx < used else rows for gidx in range(rank * shares, (rank + 1) * shares)]
    return [read_rows(folder, rows, [gidx]) for gidx in wanted]
