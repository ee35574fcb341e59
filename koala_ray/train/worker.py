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
from koala_ray.preempt.signals import Wish
from koala_ray.recipe import Recipe
from koala_ray.tokens.shards import read_plan


def train_worker(config: dict[str, Any]) -> None:
    """Ray Train's train loop.

    Args:
        config: ``recipe`` (as YAML-able values), ``workers`` (how many there are now), ``tokens`` (the token step's
            folder), ``folder`` (the train step's), ``run`` (see :class:`koala_ray.checkpoint.manifest.Manifest`),
            ``last_step``, ``stop_at`` (see :class:`koala_ray.train.loop.Job`), ``commit_seconds`` (what a checkpoint
            took before), ``nodes``, ``board`` (see :mod:`koala_ray.train.board`).

    Raises:
        KoalaError: a guard stopped the run, a worker waited too long for another one, or memory ran out.
    """
    wanted = Recipe(**config["recipe"])
    # As many as the cluster holds now; all else goes by the number that is there.
    recipe = wanted.model_copy(update={"train": wanted.train.model_copy(update={"workers": config["workers"]})})
    if not recipe.train.gpus_per_worker:
        os.environ["DS_ACCELERATOR"] = "cpu"
    from koala_ray.train.guards import explain_hang
    from koala_ray.train.oom import explain_oom

    try:
        _train(config, recipe, wanted)
    except Exception as error:
        told = explain_oom(error, recipe, config["nodes"]) or explain_hang(error, recipe.guards.hang_seconds)
        raise (told or error) from error


def _train(config: dict[str, Any], recipe: Recipe, wanted: Recipe) -> None:
    clock = {"began": time.time()}
    import ray.train
    import torch

    from koala_ray.checkpoint.export import export
    from koala_ray.checkpoint.manifest import RECORDS
    from koala_ray.checkpoint.restore import restore
    from koala_ray.checkpoint.saver import Saver
    from koala_ray.quiet import quiet_transformers
    from koala_ray.tokens.tokenizer import Tokenizer
    from koala_ray.train.board import plain
    from koala_ray.train.data import batches
    from koala_ray.train.engine import build_engine, deepspeed_config
    from koala_ray.train.evaluate import evaluate, heldout_groups, heldout_rows, opening_questions, sample_answers
    from koala_ray.train.guards import Guards, arm
    from koala_ray.train.loop import Job, run
    from koala_ray.train.model import load_model
    from koala_ray.train.retries import LeftMachines
    from koala_ray.train.wishes import wisher

    clock["imported"] = time.time()
    quiet_transformers()
    settings = recipe.train
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    if not settings.gpus_per_worker:
        torch.set_num_threads(max(1, int(settings.cpus_per_worker)))
    torch.manual_seed(settings.seed)
    records: list[dict[str, Any]] = []

    def tell(message: dict[str, Any]) -> None:
        if rank == 0:
            config["board"].post.remote(message)

    def say(text: str) -> None:
        tell({"kind": "phase", "text": text})

    def post(found: dict[str, Any]) -> None:
        if rank == 0:
            records.append(plain({**found, "time": round(time.time(), 3)}))
            tell(records[-1])

    say("loading the model")
    model = load_model(recipe.model.base, settings, recipe.lora, deepspeed_config(settings))
    engine = build_engine(model, settings)
    clock["built"] = time.time()
    folder = config["folder"]
    restored = restore(engine, folder, config["run"], lambda text: tell({"kind": "notice", "text": text}))
    clock["restored"] = time.time()
    first_step = restored.steps_taken
    records += restored.records
    guards = Guards.from_state(recipe.guards, restored.guards or {})
    gate = arm(engine, guards, storage.join(folder, RECORDS))
    known = config["commit_seconds"]
    saver = Saver(engine, folder, settings, config["run"], commit_seconds=known, told=tell)
    shards = storage.join(config["tokens"], "train")
    plan = read_plan(shards)
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
    post({**start_record(engine, recipe, first_step, workers, rows), "clock": clock})
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
        saver.save(steps_taken, records, guards.state())

    steps_taken = first_step
    if first_step < job.last_step:
        rows_of_steps = batches(shards, first_step, job.last_step, rank, workers, settings.batch_rows)
        ended = run(
            engine,
            job,
            rows_of_steps,
            gate,
            post,
            evaluate_now,
            checkpoint,
            lambda: saver.seconds,
            wisher(wanted, config["nodes"], tell, saver),
        )
        steps_taken = ended.steps_taken
        if ended.wish is not Wish.FLEE:
            say("waiting for the last checkpoint to be stored")
            saver.finish()
        if ended.wish in (Wish.LEAVE, Wish.FLEE):
            raise LeftMachines
    if steps_taken == job.last_step:
        say("writing the model")
        export(engine, recipe.model.base, storage.join(folder, "model"), settings.zero_stage)


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
