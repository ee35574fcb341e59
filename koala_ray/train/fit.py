"""A run under Ray Train: ask for the workers, hand them what they need, start them again when they are lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from koala_ray import storage
from koala_ray.checkpoint.manifest import RAY_FILES, committed_steps
from koala_ray.errors import KoalaError, StorageFailure
from koala_ray.recipe import Recipe, TrainSettings
from koala_ray.session import log_folder, room, silent_nodes
from koala_ray.steps import StepResult
from koala_ray.train.retries import Retries, fault_of, refusal

ROOM_SECONDS = 1.0
"""Between two looks at the cluster while it has too little room."""
PLACED_SECONDS = 10.0
"""How long Ray may take to find the workers' places."""


def fit(
    folder: str,
    recipe: Recipe,
    tokens: StepResult,
    last_step: int,
    run: dict[str, Any],
    board: Any,
    nodes: int,
    stop_at: Callable[[], float | None] = lambda: None,
    commit_seconds: Callable[[], float] = lambda: 0.0,
    reached: Callable[[], int] = lambda: 0,
) -> None:
    """Run Ray Train until the last step is taken, or the money is spent.

    Args:
        folder: the train step's.
        recipe: the whole recipe.
        tokens: the token step.
        last_step: the step before which the run ends.
        run: what the run is; see :class:`koala_ray.checkpoint.manifest.Manifest`.
        board: the actor that takes the workers' records.
        nodes: machines that the workers are spread over, for the advice where memory runs out.
        stop_at: tells when the money is spent; see :class:`koala_ray.train.loop.Job`.
        commit_seconds: tells what a checkpoint took so far.
        reached: tells how many steps have been taken.

    Raises:
        KoalaError: a worker refused its input, a guard stopped the run, or memory ran out.
        RuntimeError: workers failed too often; the message is their own, with the log's place.
    """
    from koala_ray.train.oom import explain_oom

    retries = Retries(recipe.retries)
    while True:
        workers = wait_for_room(recipe.train, board)
        config = {
            "recipe": recipe.model_dump(mode="json"),
            "workers": workers,
            "tokens": tokens.folder,
            "folder": folder,
            "run": run,
            "last_step": last_step,
            "stop_at": stop_at(),
            "commit_seconds": commit_seconds(),
            "nodes": nodes,
            "board": board,
        }
        try:
            trainer(folder, recipe, workers, config).fit()
            return
        except Exception as error:  # Ray wraps what a worker raised in several layers of its own
            refused: KoalaError | None = refusal(error) or explain_oom(error, recipe, nodes)
            if refused:
                raise refused from error
            fault = fault_of(error)
            try:
                wait = retries.judge(fault, reached(), _committed(folder))
            except RuntimeError as enough:
                raise RuntimeError(f"{enough}; the workers' logs: {log_folder()}") from error
            if fault.kind != "left":
                board.post.remote({"kind": "notice", "text": f"{fault.text}: starting the workers again"})
            time.sleep(wait)


def _committed(folder: str) -> int:
    """Steps that are safe in a checkpoint; -1 if the storage can't be asked."""
    try:
        return committed_steps(folder)
    except StorageFailure:
        return -1


def wait_for_room(settings: TrainSettings, board: Any) -> int:
    """The number of workers that the cluster holds now; waits until it is one that is allowed.

    Ray would wait too, but for a number fixed before, and without a word.
    """
    import ray

    told = False
    while True:
        space = room(ray, settings.cpus_per_worker, settings.gpus_per_worker, answering=True)
        if workers := settings.workers_for(space):
            return workers
        if not told:
            fewest = settings.min_workers or settings.workers
            text = f"waiting for machines: the cluster has room for {space} workers, the run needs {fewest}"
            board.post.remote({"kind": "notice", "text": text})
            told = True
        time.sleep(ROOM_SECONDS)


def trainer(folder: str, recipe: Recipe, workers: int, config: dict[str, Any]) -> Any:
    """Ray's trainer for one start of the workers.

    It neither starts them again nor keeps checkpoints: :mod:`koala_ray.train.retries` tells errors from losses, and
    :mod:`koala_ray.checkpoint` commits by itself.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from koala_ray.quiet import send_logs_to_file
    from koala_ray.train.worker import train_worker

    send_logs_to_file()
    # Else a worker that doesn't answer at all, and has no other one that waits for it, counts as alive for ten minutes.
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(recipe.guards.hang_seconds)
    # There was room a moment ago: where the workers find none, a machine has just gone, and all is counted again.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(PLACED_SECONDS)
    # A machine that was switched off counts as alive for some 15 s, and Ray would wait for it.
    silent = silent_nodes(ray)
    settings = recipe.train
    filesystem, path = storage.arrow_filesystem(folder)
    resources = {"CPU": settings.cpus_per_worker, **({"GPU": 1} if settings.gpus_per_worker else {})}
    return TorchTrainer(
        train_worker,
        train_loop_config=config,
        torch_config=TorchConfig(
            backend="nccl" if settings.gpus_per_worker else "gloo", timeout_s=recipe.guards.hang_seconds
        ),
        scaling_config=ScalingConfig(  # type: ignore[call-arg]  # the stub is that of Ray Train's first version
            num_workers=workers,
            use_gpu=settings.gpus_per_worker > 0,
            resources_per_worker=resources,
            label_selector={"ray.io/node-id": f"!in({','.join(silent)})"} if silent else None,
        ),
        run_config=RunConfig(
            name=RAY_FILES,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(  # type: ignore[call-arg]  # the same
                max_failures=0, max_preemption_failures=0, controller_failure_limit=0
            ),
        ),
    )
