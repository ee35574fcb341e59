"""The train step: checks before asking Ray for anything, then Ray Train, and the run's figures beside the model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from koala_ray import storage
from koala_ray.checkpoint.state import RAY_RUN, committed_steps
from koala_ray.errors import KoalaError
from koala_ray.models.resolve import fingerprint, resolve
from koala_ray.progress import Progress, say
from koala_ray.recipe import Recipe
from koala_ray.session import check_resources, connect, log_folder
from koala_ray.steps import StepResult, run_step
from koala_ray.tokens.shards import Plan, read_plan

METRICS = "metrics.jsonl"
MODEL = "model"
CURVE = "loss.png"


def train(recipe: Recipe, tokens: StepResult, out: str) -> tuple[StepResult, dict[str, Any]]:
    """Train a recipe's model on a token step's shards; a run that was interrupted goes on.

    Returns:
        The train step, and the figures that ``koala-ray train --json`` prints: folder, run, steps, loss_first,
        loss_last, heldout_loss_first, heldout_loss_last, tokens_per_second, seconds, dollars, model, resumed_from.

    Raises:
        KoalaError: the settings don't fit the model, the data or the cluster.
    """
    started = time.monotonic()
    plan = read_plan(storage.join(tokens.folder, "train"))
    last_step = plan.steps(recipe.train.batch_rows)
    if recipe.train.max_steps:
        last_step = min(last_step, recipe.train.max_steps)
    check_model(recipe, tokens)
    settings = recipe.train.model_dump(mode="json", exclude={"keep_checkpoints"})
    resumed: dict[str, Any] = {}
    result = run_step(
        "train",
        out,
        settings={"train": settings, "attention": recipe.model.attention},
        inputs={"tokens": tokens.manifest.content_hash, "base": fingerprint(recipe.model.base)},
        seed=recipe.train.seed,
        keep_partial=True,
        unlisted=(f"{RAY_RUN}/",),
        build=lambda folder: _build(folder, recipe, tokens, plan, last_step, resumed),
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


def check_model(recipe: Recipe, tokens: StepResult) -> None:
    """Refuse a model that can't take the packed rows.

    Raises:
        KoalaError: the context is longer than the model's, or an id lies outside its vocabulary.
    """
    from transformers import AutoConfig

    from koala_ray.tokens.tokenizer import Tokenizer

    config = AutoConfig.from_pretrained(resolve(recipe.model.base))
    context = int(tokens.manifest.settings["context"])
    longest = getattr(config, "max_position_embeddings", context)
    if context > longest:
        raise KoalaError(
            f"the context of {context} tokens is longer than the model's {longest}",
            where="tokens.context",
            mend=f"--set tokens.context={longest}",
        )
    vocabulary = Tokenizer.load(recipe.model.base).size
    if vocabulary > config.vocab_size:
        raise KoalaError(
            f"the tokenizer has {vocabulary} ids, the model {config.vocab_size}",
            where=f"model.base {recipe.model.base}",
            mend="use the tokenizer that belongs to the model",
        )


def _build(
    folder: str, recipe: Recipe, tokens: StepResult, plan: Plan, last_step: int, resumed: dict[str, Any]
) -> dict[str, Any]:
    settings = recipe.train
    ray = connect()
    check_resources(ray, settings.workers, settings.cpus_per_worker, settings.gpus_per_worker, "train")
    if plan.rows < settings.batch_rows:
        say(f"train     {plan.rows} packed rows are fewer than a batch of {settings.batch_rows}: the rest is padding")
    first_step = committed_steps(folder)
    if first_step:
        resumed["checkpoint"] = f"step {first_step}"
        say(f"train     going on after step {first_step} of {last_step}, the last committed checkpoint")
    started = time.monotonic()
    with watch(folder, first_step, last_step) as (board, records):
        fit(folder, recipe, tokens, last_step, board)
    _write_metrics(folder, records)
    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record["heldout_loss"] for record in records if record.get("heldout_loss") is not None]
    draw_curve(folder, recipe, records)
    busy = sum(record["seconds"] for record in steps)
    return {
        "steps": last_step,
        "loss_first": steps[0]["loss"] if steps else None,
        "loss_last": steps[-1]["loss"] if steps else None,
        "heldout_loss_first": evaluations[0] if evaluations else None,
        "heldout_loss_last": evaluations[-1] if evaluations else None,
        "tokens": sum(record["tokens"] for record in steps),
        "learnt_tokens": sum(record["learnt"] for record in steps),
        "tokens_per_second": round(sum(record["tokens"] for record in steps) / max(busy, 1e-9), 1),
        "train_seconds": round(time.monotonic() - started, 2),
        # No price is known on this machine; the meter of a priced cluster fills it in.
        "dollars": None,
    }


def fit(folder: str, recipe: Recipe, tokens: StepResult, last_step: int, board: Any) -> None:
    """Run Ray Train until the last step is taken.

    Raises:
        KoalaError: a worker refused its input.
        RuntimeError: a worker failed; the message is its own, with the log's place.
    """
    from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from koala_ray.quiet import send_logs_to_file
    from koala_ray.train.data import dataset
    from koala_ray.train.worker import train_worker

    send_logs_to_file()
    settings = recipe.train
    filesystem, path = storage.arrow_filesystem(folder)
    resources = {"CPU": settings.cpus_per_worker, **({"GPU": 1} if settings.gpus_per_worker else {})}
    shards = storage.join(tokens.folder, "train")
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={
            "recipe": recipe.model_dump(mode="json"),
            "tokens": tokens.folder,
            "folder": folder,
            "last_step": last_step,
            "board": board,
        },
        torch_config=TorchConfig(backend="nccl" if settings.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.workers, use_gpu=settings.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=RAY_RUN,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(num_to_keep=settings.keep_checkpoints),
        ),
        datasets={
            "train": dataset(shards, lambda: committed_steps(folder), last_step, settings.workers, settings.batch_rows)
        },
        dataset_config=DataConfig(execution_options=_in_order()),
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray wraps what a worker raised in several layers of its own
        refused = _refusal(error)
        if refused:
            raise refused from error
        last_line = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise RuntimeError(f"training failed: {last_line}; the workers' logs: {log_folder()}") from error


def _in_order() -> Any:
    from ray.data import ExecutionOptions

    return ExecutionOptions(preserve_order=True)


def _refusal(error: BaseException | None) -> KoalaError | None:
    """The KoalaError that a worker raised, if that is what ended the run."""
    failures = getattr(error, "worker_failures", None) or {}
    for candidate in [error, *failures.values()]:
        while candidate is not None:
            if isinstance(candidate, KoalaError):
                return candidate
            candidate = getattr(candidate, "cause", None) or candidate.__cause__
    return None


@contextmanager
def watch(folder: str, first_step: int, last_step: int) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """A board for the workers, and all records of the run so far, shown on the terminal as they come."""
    import ray

    from koala_ray.train.board import start_board

    board = start_board()
    records = [record for record in _read_metrics(folder) if record["step"] <= first_step]
    done = threading.Event()
    with Progress("train", last_step, "steps") as bar:
        bar.start_at(first_step)
        bar.update(first_step, "starting the workers")

        def poll() -> None:
            place = 0
            while True:
                ended = done.wait(0.5)
                for message in ray.get(board.since.remote(place)):
                    place += 1
                    _show(message, bar, records)
                    if message["kind"] == "checkpoint":
                        # A run that goes on from this checkpoint has the figures up to it.
                        _write_metrics(folder, records)
                if ended:
                    return

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield board, records
        finally:
            done.set()
            thread.join()
    ray.kill(board)


def _show(message: dict[str, Any], bar: Progress, records: list[dict[str, Any]]) -> None:
    kind = message["kind"]
    if kind == "start":
        bar.start_at(message["first_step"])
    elif kind in ("phase", "checkpoint"):
        bar.update(bar.done, message["text"])
    else:
        records.append(message)
        if kind == "evaluation":
            bar.update(bar.done, f"held-out loss {message['heldout_loss']:.3f}")
        else:
            heldout = message["heldout_loss"]
            more = f"  held-out {heldout:.3f}" if heldout is not None else ""
            speed = message["tokens"] / message["seconds"]
            bar.update(message["step"], f"loss {message['loss']:.3f}  {speed:,.0f} tokens/s{more}")


def _read_metrics(folder: str) -> list[dict[str, Any]]:
    uri = storage.join(folder, METRICS)
    if not storage.exists(uri):
        return []
    return [json.loads(line) for line in storage.read_bytes(uri).decode().splitlines()]


def _write_metrics(folder: str, records: list[dict[str, Any]]) -> None:
    data = "".join(json.dumps(record) + "\n" for record in records)
    storage.write_atomic(storage.join(folder, METRICS), data.encode())


def draw_curve(folder: str, recipe: Recipe, records: list[dict[str, Any]]) -> None:
    """Draw the run's loss curve as a PNG beside its metrics."""
    from koala_ray.train.curve import draw

    storage.write_atomic(storage.join(folder, CURVE), draw(records, recipe.name))
