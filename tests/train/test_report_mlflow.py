from __future__ import annotations

from pathlib import Path

import pytest
from made_runs import STATUS, records
from mlflow.tracking import MlflowClient

from koala_ray.train.report import mlflow
from koala_ray.train.report.mlflow import MlflowSink, flat

RUN = "train-0123456789ab"


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLflow's store of files; mlflow wants to be told that nothing newer is wished for."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return (tmp_path / "store").as_uri()


def test_a_run_is_stored_and_taken_up_again(uri: str) -> None:
    made = records(steps=20, every=10)
    sink = MlflowSink(uri, RUN, {"name": "tiny", "train": {"lr": 1e-4}})
    for record in made:
        if record["step"] <= 10:
            sink.write(record, STATUS)
    sink.close()
    again = MlflowSink(uri, RUN, {"name": "tiny", "train": {"lr": 1e-4}})
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(mlflow.EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "RUNNING"
    for record in made:
        if record["step"] > 10:
            again.write(record, STATUS)
    again.close()
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (RUN, "FINISHED")
    assert run.data.params == {"name": "tiny", "train.lr": "0.0001"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    steps = [record for record in made if record["kind"] == "step"]
    assert [(metric.step, metric.value) for metric in history] == [(s["step"], s["loss"]) for s in steps]
    assert len(client.get_metric_history(run.info.run_id, "heldout/hh/negative")) == 3
    files = [
        file.path for folder in ("evaluations", "incidents") for file in client.list_artifacts(run.info.run_id, folder)
    ]
    assert files == [f"evaluations/step-{step:06d}.json" for step in (0, 10, 20)] + ["incidents/step-000010.json"]


def test_figures_are_sent_in_requests_of_a_size_that_is_allowed(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "METRICS_AT_ONCE", 7)
    monkeypatch.setattr(mlflow, "PARAMS_AT_ONCE", 3)
    sink = MlflowSink(uri, RUN, {f"setting_{place}": "x" * 9000 for place in range(8)})
    for record in records(steps=4):
        sink.write(record, STATUS)
    sink.close()
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name(mlflow.EXPERIMENT).experiment_id])
    assert len(run.data.params) == 8
    assert len(client.get_metric_history(run.info.run_id, "train/hours_left")) == 4


def test_an_experiment_can_be_named(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    MlflowSink(uri, RUN, {}).close()
    assert MlflowClient(uri).get_experiment_by_name("mine")


def test_settings_under_dotted_names() -> None:
    assert dict(flat({"a": 1, "b": {"c": [2], "d": {}}})) == {"a": 1, "b.c": [2], "b.d": {}}
