"""What each Ray Train worker does: build the engine, go on from the last checkpoint, run the loop, export."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.recipe import Recipe
from koala_ray.tokens.shards import read_plan


def train_worker(config: dict[str, Any]) -> None:
    """Ray Train's train loop.

    Args:
        config: ``recipe`` (as YAML-able values), ``tokens`` (the token step's folder), ``folder`` (the train
            step's), ``last_step``, ``stop_at`` (see :class:`koala_ray.train.loop.Job`), ``nodes``,
            ``board`` (see :mod:`koala_ray.train.board`).

    Raises:
        KoalaError: a guard stopped the run, a worker waited too long for another one, or memory ran out.
    """
    recipe = Recipe(**config["recipe"])
    if not recipe.train.gpus_per_worker:
        os.environ["DS_ACCELERATOR"] = "cpu"
    from koala_ray.train.guards import explain_hang
    from koala_ray.train.oom import explain_oom

    try:
        _train(config, recipe)
    except Exception as error:
        told = explain_oom(error, recipe, config["nodes"]) or explain_hang(error, recipe.guards.hang_seconds)
        raise (told or error) from error


def _train(config: dict[str, Any], recipe: Recipe) -> None:
    import ray.train
    import torch

    from koala_ray.checkpoint.export import export
    from koala_ray.checkpoint.state import restore, save
    from koala_ray.quiet import quiet_transformers
    from koala_ray.tokens.tokenizer import Tokenizer
    from koala_ray.train.board import plain
    from koala_ray.train.data import checked
    from koala_ray.train.engine import build_engine, deepspeed_config
    from koala_ray.train.evaluate import evaluate, heldout_groups, heldout_rows, opening_questions, sample_answers
    from koala_ray.train.guards import Guards, arm
    from koala_ray.train.loop import Job, run
    from koala_ray.train.model import load_model

    quiet_transformers()
    settings = recipe.train
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    if not settings.gpus_per_worker:
        torch.set_num_threads(max(1, int(settings.cpus_per_worker)))
    torch.manual_seed(settings.seed)
    records: list[dict[str, Any]] = []

    def say(text: str) -> None:
        if rank == 0:
            config["board"].post.remote({"kind": "phase", "text": text})

    def post(found: dict[str, Any]) -> None:
        if rank == 0:
            record = plain(found)
            records.append(record)
            config["board"].post.remote(record)

    say("loading the model")
    model = load_model(recipe.model.base, settings, recipe.lora, deepspeed_config(settings))
    engine = build_engine(model, settings)
    first_step, restored, remembered = restore(engine)
    records += restored
    gate = arm(engine, Guards.from_state(recipe.guards, remembered), storage.join(config["folder"], "metrics.jsonl"))
    plan = read_plan(storage.join(config["tokens"], "train"))
    job = Job(
        recipe=recipe,
        first_step=first_step,
        last_step=config["last_step"],
        learnt=plan.per_step(plan.learnt, settings.batch_rows).tolist(),
        tokens=plan.per_step(plan.tokens, settings.batch_rows).tolist(),
        stop_at=config["stop_at"],
    )
    heldout = storage.join(config["tokens"], "heldout")
    rows = heldout_rows(heldout, rank, workers, settings.heldout_rows)
    post(start_record(engine, recipe, first_step, workers, rows))
    groups = heldout_groups(heldout)
    tokenizer = Tokenizer.load(recipe.model.base)
    questions = opening_questions(heldout, tokenizer, settings.samples)

    def evaluate_now(steps_taken: int) -> None:
        if not rows:
            return
        say("evaluating on held-out rows")
        started = time.monotonic()
        found = evaluate(engine, rows, groups)
        figures = {"heldout_loss": found.loss, "groups": {name: asdict(of) for name, of in found.groups.items()}}
        samples = sample_answers(engine, tokenizer, questions, settings.sample_tokens)
        seconds = time.monotonic() - started
        post({"kind": "evaluation", "step": steps_taken, **figures, "seconds": seconds, "samples": samples})

    def checkpoint(steps_taken: int) -> None:
        say(f"saving step {steps_taken}")
        save(engine, steps_taken, first_step, settings.batch_rows, records, gate.guards.state())

    steps_taken = first_step
    if first_step < job.last_step:
        share = settings.batch_rows // workers
        batches = ray.train.get_dataset_shard("train").iter_batches(
            batch_size=share, batch_format="pyarrow", prefetch_batches=2
        )
        ordered = checked(batches, first_step, rank, workers, settings.batch_rows)
        steps_taken = run(engine, job, ordered, gate, post, evaluate_now, checkpoint)
    if steps_taken == job.last_step:
        say("writing the model")
        export(engine, recipe.model.base, storage.join(config["folder"], "model"), settings.zero_stage)


def start_record(engine: Any, recipe: Recipe, first_step: int, workers: int, heldout: list[pa.Table]) -> dict[str, Any]:
    """What an attempt runs on and with, for the meter and the curves.

    FLOPs per token are those of the held-out dialogues' lengths: which dialogues are held out is a matter of chance.
    Without any, dialogues are taken to be as long as the context.
    """
    import torch

    from koala_ray.plan.flops import attended_positions, flops_per_token, peak_flops
    from koala_ray.plan.shape import shape_of
    from koala_ray.train.batch import flat_column

    weights = list(engine.module.parameters())
    device = torch.cuda.get_device_name() if recipe.train.gpus_per_worker else "cpu"
    peak = peak_flops(device, recipe.train.precision)
    lengths = flat_column(pa.concat_tables(heldout), "lengths") if heldout else np.array([recipe.tokens.context])
    try:
        attended = attended_positions(lengths)
        flops = flops_per_token(shape_of(recipe.model.base), attended, recipe.lora)
    except KoalaError:  # a model of another kind: its MFU stays unknown
        flops, peak = None, None
    return {
        "kind": "start",
        "step": first_step,
        "workers": workers,
        "parameters": count(weights),
        "trained_parameters": count([weight for weight in weights if weight.requires_grad]),
        "flops_per_token": flops,
        "peak_flops": peak * workers if peak else None,
        "device": device,
    }


def count(weights: list[Any]) -> int:
    """The number of parameters in some weights; under ZeRO-3 a weight's own count is that of this worker's shard."""
    return sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights)
