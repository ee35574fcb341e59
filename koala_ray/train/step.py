"""The train step: checks before asking Ray for anything, then Ray Train, and the run's figures beside the model."""

from __future__ import annotations

import time
from typing import Any

from koala_ray import storage
from koala_ray.checkpoint.manifest import (
    CHECKPOINTS,
    RAY_FILES,
    RECORDS,
    committed_records,
    committed_steps,
    format_records,
)
from koala_ray.errors import KoalaError
from koala_ray.faults import outlast
from koala_ray.models.resolve import fingerprint
from koala_ray.progress import say
from koala_ray.recipe import CARRIED_OUT, Recipe
from koala_ray.session import check_resources, connect
from koala_ray.steps import StepResult, run_step
from koala_ray.tokens.shards import Plan, read_plan

MODEL = "model"
RECIPE = "recipe.yaml"
"""What the run was started with last."""
CURVES = "curves.png"
PAGE = "curves.html"
TENSORBOARD = "tensorboard"
ATTEMPTS = "attempts.jsonl"


def train(recipe: Recipe, tokens: StepResult, out: str) -> tuple[StepResult, dict[str, Any]]:
    """Train a recipe's model on a token step's shards; a run that was interrupted goes on.

    Returns:
        The train step, and the figures that ``koala-ray train --json`` prints: folder, run, steps, loss_first,
        loss_last, heldout_loss_first, heldout_loss_last, tokens_per_second, seconds, dollars, model, resumed_from.

    Raises:
        KoalaError: the settings don't fit the model, the data or the cluster; a guard stopped the run; the budget
            is spent.
    """
    from koala_ray.train.check import check
    from koala_ray.train.verify import verify

    started = time.monotonic()
    verify(tokens)
    plan = read_plan(storage.join(tokens.folder, "train"))
    last_step = plan.steps(recipe.train.batch_rows)
    if recipe.train.max_steps:
        last_step = min(last_step, recipe.train.max_steps)
    check(recipe, tokens)
    settings = {
        "train": recipe.train.model_dump(mode="json", exclude=set(CARRIED_OUT)),
        "attention": recipe.model.attention,
        "lora": recipe.lora.model_dump(mode="json") if recipe.lora.rank else None,
        "guards": recipe.guards.model_dump(mode="json", exclude={"hang_seconds"}),
    }
    inputs = {"tokens": tokens.manifest.content_hash, "base": fingerprint(recipe.model.base)}
    resumed: dict[str, Any] = {}
    result = run_step(
        "train",
        out,
        settings=settings,
        inputs=inputs,
        seed=recipe.train.seed,
        keep_partial=True,
        unlisted=(f"{CHECKPOINTS}/", f"{RAY_FILES}/", f"{TENSORBOARD}/"),
        build=lambda folder: _build(folder, recipe, tokens, plan, last_step, {**settings, **inputs}, resumed),
    )
    counts = result.manifest.counts
    return result, {
        "folder": result.folder,
        "run": result.folder.rsplit("/", 1)[-1],
        **counts,
        "model": storage.join(result.folder, MODEL),
        "resumed_from": resumed.get("checkpoint"),
        "skipped": result.skipped,
        "seconds": round(time.monotonic() - started, 2),
    }


def _build(
    folder: str,
    recipe: Recipe,
    tokens: StepResult,
    plan: Plan,
    last_step: int,
    identity: dict[str, Any],
    resumed: dict[str, Any],
) -> dict[str, Any]:
    from koala_ray.train.curves import last_figures
    from koala_ray.train.fit import fit
    from koala_ray.train.ledger import Ended
    from koala_ray.train.meter import Meter
    from koala_ray.train.report import open_sinks
    from koala_ray.train.watch import watch

    settings = recipe.train
    run = folder.rsplit("/", 1)[-1]
    ray = connect()
    fewest = settings.min_workers or settings.workers
    check_resources(ray, fewest, settings.cpus_per_worker, settings.gpus_per_worker, "train")
    if plan.rows < settings.batch_rows:
        say(f"train     {plan.rows} packed rows are fewer than a batch of {settings.batch_rows}: the rest is padding")
    first_step = committed_steps(folder)
    if first_step:
        say(f"train     going on after step {first_step} of {last_step}, the last committed checkpoint")
    nodes, gpus = rented(ray)
    storage.write_atomic(storage.join(folder, RECIPE), recipe.to_yaml().encode())
    meter = Meter.open(storage.join(folder, ATTEMPTS), recipe.cost, nodes, gpus)
    sinks = open_sinks(recipe, folder, run, first_step)
    ended: Ended = "failed"
    try:
        records = committed_records(folder)

        def reached() -> int:
            return records[-1]["step"] if records else 0

        with watch(folder, records, last_step, meter, sinks) as board:
            fit(folder, recipe, tokens, last_step, identity, board, nodes, meter.stop_at, meter.commit_seconds, reached)
        steps_taken = outlast(lambda: committed_steps(folder), say)
        ended = "finished" if steps_taken == last_step else "budget"
    finally:
        outlast(lambda: meter.close(ended), say)
    if ended == "budget":
        raise KoalaError(
            f"the budget of ${recipe.cost.budget:g} is spent after step {steps_taken:,} of {last_step:,}",
            where=folder,
            mend="the checkpoint is written: the same command with a higher --budget goes on from there",
        )
    records = outlast(lambda: _write_records(folder, recipe.name), say)
    if first_step < last_step:  # the workers may have found that the last checkpoint is damaged
        first_step = [record["step"] for record in records if record["kind"] == "start"][-1]
    if first_step:
        resumed["checkpoint"] = f"step {first_step}"
    dollars = meter.dollars()
    return last_figures(records) | {
        "dollars": None if dollars is None else round(dollars, 4),
        "train_seconds": round(meter.seconds(), 2),
    }


def _write_records(folder: str, name: str) -> list[dict[str, Any]]:
    """Write a finished run's figures and their pictures, and return the figures."""
    from koala_ray.train.curves import curves_page, curves_png

    records = committed_records(folder)
    storage.write_atomic(storage.join(folder, RECORDS), format_records(records))
    storage.write_atomic(storage.join(folder, CURVES), curves_png({name: records}))
    storage.write_atomic(storage.join(folder, PAGE), curves_page({name: records}).encode())
    return records


def rented(ray: Any) -> tuple[int, int]:
    """The nodes and the GPUs of the cluster, all of which are paid for."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return len(alive), int(sum(node.get("GPU", 0) for node in alive))
