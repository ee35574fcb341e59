"""Several training runs in one group of Ray Train workers, since starting a group costs more than a tiny run."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import ray
import torch

from koala_ray import storage
from koala_ray.recipe import Recipe
from koala_ray.tokens.shards import read_plan

STEPS = 3
SAVED_AFTER = 2


def run_cases(workers: int, tokens: str, cases: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Train the tiny model once for each case and give its steps and final weights.

    Args:
        workers: the size of the worker group.
        tokens: a token step's folder.
        cases: for each name the train settings that differ from the defaults; ``lora`` in them are adapters', and
            ``evaluated`` means held-out losses and sampled answers before each step, ``saved`` a folder for a
            checkpoint after :data:`SAVED_AFTER` steps, and ``resumed`` one to go on from.
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
        return {name: torch.load(os.path.join(folder, f"{name}.pt"), weights_only=False) for name in cases}


def cases_worker(config: dict[str, Any]) -> None:
    """One worker: the product's own engine and loop for each case, on the plan's rows."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import ray.train

    from koala_ray.checkpoint.restore import Restored, restore
    from koala_ray.checkpoint.saver import Saver
    from koala_ray.errors import KoalaError
    from koala_ray.tokens.tokenizer import Tokenizer
    from koala_ray.train.data import checked, read_rows, rows_of
    from koala_ray.train.engine import build_engine, deepspeed_config
    from koala_ray.train.evaluate import evaluate, heldout_groups, heldout_rows, opening_questions, sample_answers
    from koala_ray.train.guards import Guards, arm
    from koala_ray.train.loop import Job, run
    from koala_ray.train.model import load_model

    torch.set_num_threads(1)
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    shards = storage.join(config["tokens"], "train")
    plan = read_plan(shards)
    heldout = storage.join(config["tokens"], "heldout")
    rows, groups = heldout_rows(heldout, rank, workers, 6), heldout_groups(heldout)
    tokenizer = Tokenizer.load("tiny")
    questions = opening_questions(heldout, tokenizer, 3)
    for name, case in config["cases"].items():
        lora, evaluated = case.pop("lora", {}), case.pop("evaluated", False)
        saved, resumed = case.pop("saved", ""), case.pop("resumed", "")
        recipe = Recipe(name=name, train={"workers": workers, "lr": 1e-3, "eps": 1e-6, **case}, lora=lora)
        settings = recipe.train
        torch.manual_seed(0)
        model = load_model("tiny", settings, recipe.lora, deepspeed_config(settings))
        engine = build_engine(model, settings)
        records: list[dict[str, Any]] = []
        evaluations: list[dict[str, Any]] = []
        notices: list[str] = []
        restored = restore(engine, resumed, {}, notices.append) if resumed else Restored()
        first = restored.steps_taken
        tables = (
            read_rows(shards, plan.rows, rows_of(step, rank, workers, settings.batch_rows))
            for step in range(first, STEPS)
        )
        job = Job(
            recipe=recipe,
            first_step=first,
            last_step=STEPS,
            learnt=plan.per_step(plan.learnt, settings.batch_rows).tolist(),
            tokens=plan.per_step(plan.tokens, settings.batch_rows).tolist(),
        )
        gate = arm(engine, Guards.from_state(recipe.guards, restored.guards or {}), "nowhere")
        saver = Saver(engine, saved, settings, {}, patience=60) if saved else None

        def ask(steps_taken: int, engine: Any = engine, evaluations: list[dict[str, Any]] = evaluations) -> None:
            found = evaluate(engine, rows, groups)
            answers = sample_answers(engine, tokenizer, questions, 5)
            evaluations.append({"loss": found.loss, "groups": found.groups, "answers": answers})

        def save(steps_taken: int, saver: Any = saver, records: Any = records, gate: Any = gate) -> None:
            if saver and steps_taken == SAVED_AFTER:
                saver.save(steps_taken, records, gate.guards.state())

        ordered = checked(tables, first, rank, workers, settings.batch_rows)
        asked = {"evaluate": ask} if evaluated else {}
        stopped = None
        try:
            run(engine, job, ordered, gate, records.append, checkpoint=save, **asked)
        except KoalaError as error:
            stopped = error.as_json()
        if saver:
            saver.finish()
        if settings.zero_stage == 3:
            state = engine._zero3_consolidated_16bit_state_dict()
        else:
            state = engine.module.state_dict()
        if rank == 0:
            weights = {key: value.detach().clone() for key, value in state.items() if not key.startswith("head.")}
            result = {
                "losses": [record["loss"] for record in records if record["kind"] == "step"],
                "grad_norms": [record["grad_norm"] for record in records if record["kind"] == "step"],
                "incidents": [record for record in records if record["kind"] == "incident"],
                "stopped": stopped,
                "notices": notices,
                "evaluations": evaluations,
                "weights": {key.removeprefix("network."): value for key, value in weights.items()},
            }
            torch.save(result, os.path.join(config["folder"], f"{name}.pt"))
        engine.destroy()
