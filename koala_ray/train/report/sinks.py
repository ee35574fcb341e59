"""A recipe's sinks: opened before training, each at work in a thread of its own, left behind when they fail."""

from __future__ import annotations

import importlib.util
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from koala_ray.errors import KoalaError, refuse
from koala_ray.progress import say
from koala_ray.recipe import Recipe, ReportSettings
from koala_ray.train.report.scalars import Record, Status

FLUSH_SECONDS = 30.0
"""A sink that is written to is flushed at least so often."""
CLOSE_SECONDS = 60.0
"""How long the end of a run waits for a sink that has figures left to send."""
MENDS = {
    "tensorboard": "pip install tensorboard, or --set report.tensorboard=false",
    "wandb": "pip install 'koala-ray[wandb]', or --set report.wandb=",
    "mlflow": "pip install 'koala-ray[mlflow]', or --set report.mlflow=",
}


class Sink(Protocol):
    """Takes a run's records as they come. Lives in the driver's process."""

    def write(self, record: Record, status: Status) -> None:
        """Take a record, and what the driver knows beside it."""

    def flush(self) -> None:
        """Bring what was written to where it can be seen."""

    def close(self) -> None:
        """Flush, and let go of files and connections."""


def problems(report: ReportSettings) -> list[KoalaError]:
    """What stands in the way of the sinks that a recipe asks for: a missing package, or nobody logged in."""
    asked = {"tensorboard": report.tensorboard, "wandb": report.wandb, "mlflow": report.mlflow}
    missing = [package for package, wanted in asked.items() if wanted and importlib.util.find_spec(package) is None]
    found = [
        KoalaError(f"the package {package} is not installed", where=f"report.{package}", mend=MENDS[package])
        for package in missing
    ]
    if report.wandb and "wandb" not in missing:
        from koala_ray.train.report.wandb import logged_in

        if not logged_in():
            mend = "run `wandb login`, or set WANDB_MODE=offline and upload the run later with `wandb sync`"
            found.append(KoalaError("nobody is logged in to Weights & Biases", where="report.wandb", mend=mend))
    return found


def open_sinks(recipe: Recipe, folder: str, run: str, first_step: int) -> list[Sink]:
    """The sinks that ``recipe.report`` asks for, each working in a thread of its own.

    Training never waits for them, and one that fails is left out from then on, with a line that says why.

    Args:
        recipe: is shown as the run's settings.
        folder: the run's folder or URI, for what is stored beside the run.
        run: the run's name; a run that goes on is taken up under it again.
        first_step: the steps taken before; later ones of an earlier attempt are replaced where a sink can.

    Raises:
        KoalaError: the :func:`problems`.
    """
    refuse(problems(recipe.report))
    return [Background(name, opener) for name, opener in _openers(recipe, folder, run, first_step)]


def _openers(recipe: Recipe, folder: str, run: str, first_step: int) -> list[tuple[str, Callable[[], Sink]]]:
    from koala_ray.train.report.mlflow import MlflowSink
    from koala_ray.train.report.prometheus import PrometheusSink
    from koala_ray.train.report.tensorboard import TensorboardSink
    from koala_ray.train.report.wandb import WandbSink

    report = recipe.report
    # Where figures go is none of the run's settings, and an address may hold a password.
    settings = recipe.model_dump(mode="json", exclude={"report"})
    openers: list[tuple[str, Callable[[], Sink]]] = []
    if report.tensorboard:
        openers.append(("TensorBoard", lambda: TensorboardSink(folder, first_step, settings)))
    if report.wandb:
        openers.append(("Weights & Biases", lambda: WandbSink(report.wandb, run, settings)))
    if report.mlflow:
        openers.append(("MLflow", lambda: MlflowSink(report.mlflow, run, settings)))
    if report.prometheus:
        openers.append(("Prometheus", lambda: PrometheusSink(run)))
    return openers


class Background:
    """A sink in a thread of its own. Whatever it raises is said once, and ends the sink but not the run."""

    def __init__(self, name: str, open_sink: Callable[[], Sink]) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[str, tuple[Any, ...]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(open_sink,), name=f"report {name}", daemon=True)
        self._thread.start()

    def write(self, record: Record, status: Status) -> None:
        """Have a record written."""
        self._jobs.put(("write", (dict(record), dict(status))))

    def flush(self) -> None:
        """Have what was written brought to where it can be seen."""
        self._jobs.put(("flush", ()))

    def close(self) -> None:
        """Wait until all of it is written, at most :data:`CLOSE_SECONDS`."""
        self._jobs.put(("close", ()))
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            say(f"report    {self._name} is not done after {CLOSE_SECONDS:.0f} s: its last figures may be missing")

    def _work(self, open_sink: Callable[[], Sink]) -> None:
        sink: Sink | None = None
        job, flushed = "open", time.monotonic()
        try:
            sink = open_sink()
        except Exception as error:
            self._say(error)
        while job != "close":
            # Also without a sink, so that a long run doesn't pile records up.
            job, arguments = self._jobs.get()
            if sink is None:
                continue
            try:
                getattr(sink, job)(*arguments)
                if job == "write" and time.monotonic() - flushed >= FLUSH_SECONDS:
                    sink.flush()
                    job = "flush"
            except Exception as error:
                self._say(error)
                with suppress(Exception):
                    sink.close()
                sink = None
            if job == "flush":
                flushed = time.monotonic()

    def _say(self, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        say(f"report    {self._name} failed, the run goes on without it: {reason}")
