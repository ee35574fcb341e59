"""One attempt at a run under Ray Train: ask for the workers, hand them what they need, and say what ended them."""

from __future__ import annotations

from typing import Any

from koala_ray import storage
from koala_ray.checkpoint.state import RAY_RUN, committed_steps
from koala_ray.errors import KoalaError
from koala_ray.recipe import Recipe
from koala_ray.session import log_folder
from koala_ray.steps import StepResult


def fit(
    folder: str,
    recipe: Recipe,
    tokens: StepResult,
    last_step: int,
    board: Any,
    nodes: int,
    stop_at: float | None = None,
) -> None:
    """Run Ray Train until the last step is taken, or the money is spent.

    Args:
        folder: the train step's.
        recipe: the whole recipe.
        tokens: the token step.
        last_step: the step before which the run ends.
        board: the actor that takes the workers' records.
        nodes: machines that the workers are spread over, for the advice where memory runs out.
        stop_at: see :class:`koala_ray.train.loop.Job`.

    Raises:
        KoalaError: a worker refused its input, a guard stopped the run, a worker hung, or memory ran out.
        RuntimeError: a worker failed; the message is its own, with the log's place.
    """
    from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from koala_ray.quiet import send_logs_to_file
    from koala_ray.train.data import dataset
    from koala_ray.train.oom import explain_oom
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
            "stop_at": stop_at,
            "nodes": nodes,
            "board": board,
        },
        torch_config=TorchConfig(
            backend="nccl" if settings.gpus_per_worker else "gloo", timeout_s=recipe.guards.hang_seconds
        ),
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
        refused = _refusal(error) or explain_oom(error, recipe, nodes)
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
