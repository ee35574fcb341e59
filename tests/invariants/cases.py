"""Several training runs in one group of Ray Train workers, since starting a group costs more than a tiny run."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import ray
import torch

from koala_ray import storage
from koala_ray.recipe import TrainSettings
from koala_ray.tokens.shards import read_plan

STEPS = 3


def run_cases(workers: int, tokens: str, cases: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Train the tiny model once for each case and give its steps and final weights.

    Args:
        workers: the size of the worker group.
        tokens: a token step's folder.
        cases: for each name the train settings that differ from the defaults.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    # Ray's workers don't see this folder: the functions travel whole.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with tempfile.TemporaryDirectory() as folder:
        TorchTrainer(
            cases_worker,
            train_loop_config={"tokens": tokens, "cases": cases, "folder": folder},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(name="cases", storage_path=folder),
        ).fit()
        return {name: torch.load(os.path.join(folder, f"{name}.pt")) for name in cases}


def cases_worker(config: dict[str, Any]) -> None:
    """One worker: the product's own engine and loop for each case, on the plan's rows."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import ray.train

    from koala_ray.train.data import checked, read_rows, rows_of
    from koala_ray.train.engine import build_engine, load_model
    from koala_ray.train.loop import Job, Step, run

    torch.set_num_threads(1)
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    shards = storage.join(config["tokens"], "train")
    plan = read_plan(shards)
    for name, case in config["cases"].items():
        settings = TrainSettings(**{"workers": workers, "lr": 1e-3, "eps": 1e-6, **case})
        torch.manual_seed(0)
        engine = build_engine(load_model("tiny", settings), settings)
        steps: list[Step] = []
        tables = (
            read_rows(shards, plan.rows, rows_of(step, rank, workers, settings.batch_rows)) for step in range(STEPS)
        )
        job = Job(
            settings=settings,
            first_step=0,
            last_step=STEPS,
            learnt=plan.per_step(plan.learnt, settings.batch_rows).tolist(),
            tokens=plan.per_step(plan.tokens, settings.batch_rows).tolist(),
            heldout=[],
        )
        run(engine, job, checked(tables, 0, rank, workers, settings.batch_rows), steps.append)
        if settings.zero_stage == 3:
            weights = engine._zero3_consolidated_16bit_state_dict()
        else:
            weights = engine.module.state_dict()
        if rank == 0:
            result = {
                "losses": [step.loss for step in steps],
                "grad_norms": [step.grad_norm for step in steps],
                "weights": {key: value.detach().clone() for key, value in weights.items()},
            }
            torch.save(result, os.path.join(config["folder"], f"{name}.pt"))
        engine.destroy()
