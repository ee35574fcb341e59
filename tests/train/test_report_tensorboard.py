from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_runs import GROUPS, STATUS, evaluation, incident, records, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from koala_ray import storage
from koala_ray.train.report.tensorboard import TensorboardSink, fenced

SETTINGS = {"name": "tiny", "train": {"lr": 1e-4}}


def written(folder: str, found: list[dict[str, Any]], first_step: int = 0) -> None:
    sink = TensorboardSink(folder, first_step, SETTINGS)
    for record in found:
        sink.write(record, STATUS)
    sink.close()


def read(folder: Path) -> EventAccumulator:
    """What TensorBoard makes of a run's files."""
    accumulator = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def series(accumulator: EventAccumulator, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def text(accumulator: EventAccumulator, name: str) -> list[tuple[int, str]]:
    return [
        (event.step, event.tensor_proto.string_val[0].decode()) for event in accumulator.Tensors(f"{name}/text_summary")
    ]


def test_the_figures_are_read_back(tmp_path: Path) -> None:
    made = records()
    written(str(tmp_path), made)
    found = read(tmp_path)
    steps = [record for record in made if record["kind"] == "step"]
    losses = [record["loss"] for record in steps]
    taken, values = zip(*series(found, "train/loss"), strict=True)
    assert taken == tuple(range(1, 61))
    assert values == pytest.approx(losses)
    assert series(found, "train/dollars") == [(record["step"], 1.25) for record in steps]
    assert [step for step, _ in series(found, "heldout/loss")] == [0, 20, 40, 60]
    names = {"learning_rate", "gradient_norm", "data_wait_seconds", "checkpoint_stall_seconds", "tokens_per_second"}
    names = {f"train/{name}" for name in names | {"loss", "dollars", "dollars_to_go", "hours_left"}}
    assert set(found.Tags()["scalars"]) == names | {"heldout/loss", *(f"heldout/{group}" for group in GROUPS)}


def test_samples_incidents_and_the_recipe_are_texts(tmp_path: Path) -> None:
    written(str(tmp_path), [start(0), evaluation(0, 60), incident(3)])
    found = read(tmp_path)
    assert "lr: 0.0001" in text(found, "recipe")[0][1]
    assert "device: cpu" in text(found, "start")[0][1]
    ((step, sample),) = text(found, "samples")
    assert step == 0
    assert "    the sky <blue>?" in sample
    assert "    Answer 0 after 0 steps." in sample
    assert text(found, "incident")[0][0] == 3
    assert "hc3/a.jsonl#3" in text(found, "incident")[0][1]


def test_a_run_that_goes_on_replaces_the_steps_that_it_takes_again(tmp_path: Path) -> None:
    made = records()
    killed = [record for record in made if record["step"] <= 37]
    written(str(tmp_path), killed)
    again = [record | {"loss": 0.5} for record in made if record["kind"] == "step" and 20 < record["step"] <= 30]
    written(str(tmp_path), again, first_step=20)
    losses = series(read(tmp_path), "train/loss")
    assert [step for step, _ in losses] == list(range(1, 31))
    assert [loss for step, loss in losses if step > 20] == [0.5] * 10
    assert [step for step, _ in series(read(tmp_path), "heldout/loss")] == [0, 20]


def test_a_run_killed_before_its_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    written(str(tmp_path), records(steps=10))
    written(str(tmp_path), [evaluation(0, 60)])
    found = read(tmp_path)
    assert series(found, "heldout/loss") == [(0, pytest.approx(evaluation(0, 60)["heldout_loss"]))]
    assert series(found, "train/loss") == []


def test_figures_can_be_read_after_a_flush_wherever_the_run_is_stored(root: str, tmp_path: Path) -> None:
    sink = TensorboardSink(root, 0, SETTINGS)
    made = records(steps=200)
    for record in made:
        sink.write(record, STATUS)
    sink.flush()
    storage.copy_to_local(storage.join(root, "tensorboard"), tmp_path / "copy" / "tensorboard")
    assert len(series(read(tmp_path / "copy"), "train/loss")) == 200
    sink.close()


def test_a_text_can_not_break_out_of_its_block() -> None:
    assert fenced("a\n```\n# b") == "    a\n    ```\n    # b"
