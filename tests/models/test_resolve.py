from __future__ import annotations

from pathlib import Path

import pytest
from object_store import new_bucket

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.models.resolve import check, resolve


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_is_its_own_place(tmp_path: Path) -> None:
    folder = model(tmp_path / "some" / "model-folder")
    for base in (str(folder), "some/model-folder", "./some/model-folder"):
        check(base)
        assert resolve(base) == str(folder)


def test_a_train_steps_folder_stands_for_its_model(tmp_path: Path) -> None:
    folder = model(tmp_path / "train-0123" / "model")
    check("train-0123")
    assert resolve("train-0123") == str(folder)


@pytest.mark.parametrize("base", ["./nowhere", "nowhere", "/nowhere/at/all", "~nobody/x", "a/b/c"])
def test_what_is_not_there_is_refused(base: str) -> None:
    for ask in (check, resolve):
        with pytest.raises(KoalaError) as caught:
            ask(base)
        assert caught.value.where == base
        assert "smollm2-135m, tiny" in caught.value.mend


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for ask in (check, resolve):
        with pytest.raises(KoalaError, match=r"no config\.json"):
            ask("empty")


def test_a_check_builds_and_fetches_nothing(tmp_path: Path) -> None:
    for base in ("tiny", "smollm2-135m", "huggyllama/llama-13b"):
        check(base)
    assert not (tmp_path / "home").exists()


def test_a_model_on_object_storage_is_copied_once(s3_endpoint: str, tmp_path: Path) -> None:
    uri = new_bucket()
    with pytest.raises(KoalaError, match=r"no config\.json"):
        check(uri)
    storage.write_atomic(f"{uri}/model/config.json", b'{"a": 1}')
    check(uri)
    assert not (tmp_path / "home").exists()
    folder = Path(resolve(uri))
    assert (folder / "config.json").read_bytes() == b'{"a": 1}'
    written = (folder / "config.json").stat().st_mtime_ns
    assert Path(resolve(uri)) == folder
    assert (folder / "config.json").stat().st_mtime_ns == written
