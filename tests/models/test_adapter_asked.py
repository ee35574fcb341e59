"""An adapter as the model that is asked: its name is the folder's, its hash the merged model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_adapters import make_adapter, make_base

from koala_ray.errors import KoalaError
from koala_ray.generate.model import open_model
from koala_ray.models.resolve import fingerprint, resolve
from koala_ray.steps import run_step


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def test_its_name_is_the_folders_and_its_hash_the_merged_models(tmp_path, base):
    adapter = make_adapter(tmp_path / "some" / "my-adapter", base)
    (adapter / "recipe.yaml").write_text("name: mine\n")  # no run that goes on
    for name in (str(adapter), "some/my-adapter", "./some/my-adapter/"):
        model = open_model(name)
        assert (model.name, model.title, model.step) == (str(adapter), "my-adapter", None)
        assert resolve(model.place) == resolve(str(adapter))
        assert model.hash == fingerprint(resolve(str(adapter))) != fingerprint(str(base))


def test_a_folder_right_here_has_its_whole_path(tmp_path, base):
    adapter = make_adapter(tmp_path / "my-adapter", base)
    assert open_model("my-adapter").place == str(adapter)
    assert open_model("base").place == str(base)
    assert open_model("base", base=str(adapter)).name == str(adapter)


def test_in_a_run_it_has_the_runs_steps(tmp_path, base):
    def build(folder: str) -> dict[str, Any]:
        make_adapter(Path(folder) / "model" / "adapter", base)
        return {"steps": 7}

    run = run_step("train", str(tmp_path / "out"), settings={}, inputs={}, seed=0, build=build)
    model = open_model(f"{run.folder}/model/adapter")
    assert (model.step, model.title) == (7, "adapter")


def test_a_wrong_one_is_refused_before_anything_starts(tmp_path, base):
    adapter = make_adapter(tmp_path / "my-adapter", base)
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(KoalaError, match="base can't be had") as caught:
        open_model("my-adapter")
    assert caught.value.where == str(adapter / "adapter_config.json")
