"""Weights & Biases: the run under its folder's name, which is taken up again when the run goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from koala_ray.home import private_folder
from koala_ray.progress import say
from koala_ray.train.report.scalars import Record, Status, scalars


def logged_in() -> bool:
    """Whether there is a key to log in with, or none is needed. Asks nobody."""
    import wandb

    try:
        return wandb.setup().settings.mode != "online" or bool(wandb.login(prompt=False))
    except wandb.Error:
        # There is a key, but the server doesn't answer: it may before the run is over.
        return True


class WandbSink:
    """Logs scalars, sampled answers and incidents to a project. ``WANDB_MODE`` and its siblings are honoured."""

    def __init__(self, project: str, run: str, settings: Mapping[str, Any]) -> None:
        """Start the run, or take it up again."""
        import wandb

        self._run = wandb.init(
            project=project,
            id=run,
            name=run,
            resume="allow",
            config=dict(settings),
            dir=os.environ.get("WANDB_DIR") or str(private_folder("wandb")),
            settings=wandb.Settings(console="off", silent=True),
        )
        if not self._run.offline:
            say(f"report    {self._run.url}")
        # Its own step only ever grows, and would drop the steps that a run takes again after a restart.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, record: Record, status: Status) -> None:
        """Log a record's figures; sampled answers and incidents as tables."""
        import wandb

        step, values = record["step"], dict[str, Any](scalars(record, status))
        if record["kind"] == "evaluation" and record["samples"]:
            rows = [[step, sample["prompt"], sample["answer"]] for sample in record["samples"]]
            values["samples"] = wandb.Table(columns=["step", "prompt", "answer"], data=rows)
        elif record["kind"] == "incident":
            columns: list[str | int] = ["step", "what", "action", "loss", "grad_norm", "examples"]
            row = [step, record["what"], record["action"], record["loss"], record["grad_norm"]]
            values["incidents"] = wandb.Table(columns=columns, data=[[*row, ", ".join(record["examples"])]])
        elif record["kind"] == "start":
            self._run.config.update({"start": dict(record)}, allow_val_change=True)
        if values:
            self._run.log({"step": step, **values})

    def flush(self) -> None:
        """Nothing to do: a process of wandb's own sends what was logged."""

    def close(self) -> None:
        """Wait until everything is sent."""
        self._run.finish()
