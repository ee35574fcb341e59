"""MLflow: the run under its folder's name in one experiment, which is taken up again when the run goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from koala_ray.train.report.scalars import Record, Status, scalars

EXPERIMENT = "koala-ray"
"""Where runs are listed unless ``MLFLOW_EXPERIMENT_NAME`` names another one."""
METRICS_AT_ONCE, PARAMS_AT_ONCE, PARAM_LENGTH = 1000, 100, 6000
"""MLflow's own limits of a request."""


class MlflowSink:
    """Logs scalars to a tracking server or folder, sampled answers and incidents as artifacts."""

    def __init__(self, uri: str, run: str, settings: Mapping[str, Any]) -> None:
        """Start the run, or take it up again."""
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._waiting: list[Any] = []
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
        found = self._client.search_runs([experiment], f"attributes.run_name = '{run}'", max_results=1)
        self._id = found[0].info.run_id if found else self._new_run(experiment, run, settings)
        self._client.update_run(self._id, status="RUNNING")

    def write(self, record: Record, status: Status) -> None:
        """Keep a record's figures for the next flush; store sampled answers and incidents."""
        from mlflow.entities import Metric

        now, step = int(1000 * time.time()), record["step"]
        self._waiting += [Metric(name, value, now, step) for name, value in scalars(record, status).items()]
        if record["kind"] == "incident" or (record["kind"] == "evaluation" and record["samples"]):
            text = json.dumps(dict(record), indent=1, ensure_ascii=False)
            self._client.log_text(self._id, text, f"{record['kind']}s/step-{step:06d}.json")

    def flush(self) -> None:
        """Send the figures that wait."""
        while self._waiting:
            self._client.log_batch(self._id, metrics=self._waiting[:METRICS_AT_ONCE])
            del self._waiting[:METRICS_AT_ONCE]

    def close(self) -> None:
        """Send the rest and mark the run as ended."""
        self.flush()
        self._client.set_terminated(self._id)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _new_run(self, experiment: str, run: str, settings: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        made = self._client.create_run(experiment, run_name=run).info.run_id
        params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in flat(settings)]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(made, params=params[first : first + PARAMS_AT_ONCE])
        return str(made)


def flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings under dotted names: ``train.lr``."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
