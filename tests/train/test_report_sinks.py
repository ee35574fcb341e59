from __future__ import annotations

import math
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import GROUPS, STATUS, evaluation, incident, records, start

from koala_ray.errors import KoalaError
from koala_ray.recipe import ReportSettings
from koala_ray.recipe_file import load_recipe
from koala_ray.train.report import open_sinks, problems, sinks
from koala_ray.train.report.scalars import scalars
from koala_ray.train.report.sinks import Background

OFF = ("report.tensorboard=false", "report.prometheus=false")


class Kept:
    """A sink that keeps what it gets, and fails when it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.calls: list[str] = []
        self.failing = failing
        self.threads: set[int] = set()

    def _call(self, name: str) -> None:
        self.threads.add(threading.get_ident())
        self.calls.append(name)
        if name == self.failing:
            raise OSError("the network\nis down")

    def write(self, record: Any, status: Any) -> None:
        self._call(f"write {record['step']}")

    def flush(self) -> None:
        self._call("flush")

    def close(self) -> None:
        self._call("close")


def test_a_sink_gets_everything_in_order_in_a_thread_of_its_own() -> None:
    kept = Kept()
    sink = Background("Kept", lambda: kept)
    sink.write({"step": 1}, {})
    sink.flush()
    sink.write({"step": 2}, {})
    sink.close()
    assert kept.calls == ["write 1", "flush", "write 2", "close"]
    assert len(kept.threads) == 1
    assert threading.get_ident() not in kept.threads


def test_a_sink_that_is_written_to_is_flushed_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "FLUSH_SECONDS", 0.0)
    kept = Kept()
    sink = Background("Kept", lambda: kept)
    sink.write({"step": 1}, {})
    sink.close()
    assert kept.calls == ["write 1", "flush", "close"]


@pytest.mark.parametrize(
    ("failing", "calls"),
    [
        ("write 2", ["write 1", "write 2", "close"]),
        ("flush", ["write 1", "write 2", "write 3", "flush", "close"]),
        ("close", ["write 1", "write 2", "write 3", "flush", "close", "close"]),
    ],
)
def test_a_sink_that_fails_is_left_behind_with_the_reason_said_once(
    failing: str, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(failing)
    sink = Background("Kept", lambda: kept)
    for step in (1, 2, 3):
        sink.write({"step": step}, {})
    sink.flush()
    sink.close()
    assert kept.calls == calls
    said = capsys.readouterr().err.splitlines()
    assert said == ["report    Kept failed, the run goes on without it: the network is down"]


def test_a_sink_that_can_not_be_opened_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> Kept:
        raise ConnectionError

    sink = Background("Kept", refuse)
    sink.write({"step": 1}, {})
    sink.close()
    assert "Kept failed, the run goes on without it: ConnectionError" in capsys.readouterr().err


def test_a_sink_that_hangs_holds_the_end_up_for_a_stated_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sinks, "CLOSE_SECONDS", 0.05)
    let_go = threading.Event()

    class Hanging(Kept):
        def close(self) -> None:
            let_go.wait(30)

    sink = Background("Hanging", Hanging)
    sink.close()
    let_go.set()
    assert "Hanging is not done after 0 s" in capsys.readouterr().err


def test_the_recipe_says_which_sinks_there_are(tmp_path: Any) -> None:
    recipe = load_recipe("tiny", OFF)
    assert open_sinks(recipe, str(tmp_path), "train-0", 0) == []
    opened = open_sinks(load_recipe("tiny", OFF[1:]), str(tmp_path), "train-0", 0)
    assert len(opened) == 1
    for sink in opened:
        sink.close()
    assert list((tmp_path / "tensorboard").iterdir())


def test_missing_packages_are_problems_each_with_its_mend() -> None:
    # In a process in which they really can't be found.
    code = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Without(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        missing = name in ('tensorboard', 'wandb', 'mlflow')\n"
        "        return None if missing else PathFinder.find_spec(name, path, target)\n"
        "sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]\n"
        "from koala_ray.recipe import ReportSettings\n"
        "from koala_ray.train.report import problems\n"
        "for error in problems(ReportSettings(wandb='koala', mlflow='http://x')):\n"
        "    print(error.error, error.where, error.mend, sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for package, line in zip(("tensorboard", "wandb", "mlflow"), done.stdout.splitlines(), strict=True):
        error, where, mend = line.split("|")
        assert error == f"the package {package} is not installed"
        assert where == f"report.{package}"
        assert mend.startswith("pip install")
        assert package in mend


def test_what_is_installed_is_no_problem() -> None:
    assert problems(ReportSettings(tensorboard=True, mlflow="http://127.0.0.1:1")) == []


def test_weights_and_biases_without_a_login_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from koala_ray.train.report import wandb

    monkeypatch.setattr(wandb, "logged_in", lambda: False)
    with pytest.raises(KoalaError) as refused:
        open_sinks(load_recipe("tiny", ["report.wandb=koala"]), str(tmp_path), "train-0", 0)
    assert refused.value.where == "report.wandb"
    assert "wandb login" in refused.value.mend
    assert not list(tmp_path.iterdir())


def test_a_steps_figures_by_name() -> None:
    step = next(record for record in records() if record["kind"] == "step")
    found = scalars(step, STATUS)
    assert found["train/loss"] == step["loss"]
    assert found["train/hours_left"] == 0.5
    assert "train/mfu" not in found, "not known"
    assert len(found) == 9


def test_an_evaluations_figures_by_name() -> None:
    found = scalars(evaluation(20, 60), STATUS)
    assert list(found) == ["heldout/loss", *(f"heldout/{group}" for group in GROUPS)]


@pytest.mark.parametrize("record", [start(0), incident(3)])
def test_other_records_have_no_figures(record: dict[str, Any]) -> None:
    assert scalars(record, STATUS) == {}


@given(st.dictionaries(st.sampled_from(["loss", "grad_norm", "lr"]), st.floats() | st.none()))
def test_figures_are_finite(values: dict[str, float | None]) -> None:
    found = scalars({"kind": "step", "step": 1, **values}, {})
    assert all(math.isfinite(value) for value in found.values())
    assert len(found) == sum(value is not None and math.isfinite(value) for value in values.values())
