"""What is prepared already is found without running anything, under the name that preparing gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koala_ray import storage
from koala_ray.curate import step as curating
from koala_ray.prepare import prepare, prepared
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.steps import MARKER
from koala_ray.tokens import step as tokenizing

COUNTS = dict.fromkeys(
    ("rows_in", "rows_kept", "rows_rejected", "sources", "tokens", "learnt_tokens", "packs", "fill", "heldout"), 0
)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The only raw file of a recipe's data."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "alpaca.json").write_text('[{"instruction": "a", "input": "", "output": "b"}]')
    return tmp_path / "raw"


@pytest.fixture
def recipe(raw: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe whose steps are done without a Ray: their names, hashes and commits are real, their content isn't."""

    def build(folder: str, *others: Any) -> dict[str, Any]:
        storage.write_atomic(storage.join(folder, "made"), b"x")
        return dict(COUNTS)

    monkeypatch.setattr(curating, "_build", build)
    monkeypatch.setattr(tokenizing, "_build", build)
    return load_recipe("tiny", ["curate.decontaminate=off"], str(raw))


def test_what_was_prepared_is_found(recipe: Recipe, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert prepared(recipe, out) is None
    step, _ = prepare(recipe, out)
    found = prepared(recipe, out)
    assert found is not None
    assert (found.folder, found.manifest, found.skipped) == (step.folder, step.manifest, True)


@pytest.mark.parametrize("item", ["tokens.context=128", "data.seed=1", "train.epochs=7", "curate.language=any"])
def test_what_other_settings_prepared_is_not_taken(recipe: Recipe, raw: Path, tmp_path: Path, item: str) -> None:
    out = str(tmp_path / "out")
    prepare(recipe, out)
    assert prepared(load_recipe("tiny", ["curate.decontaminate=off", item], str(raw)), out) is None


def test_what_only_training_reads_changes_nothing(recipe: Recipe, raw: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    prepare(recipe, out)
    assert prepared(load_recipe("tiny", ["curate.decontaminate=off", "train.lr=1"], str(raw)), out) is not None


def test_a_step_that_was_not_finished_is_not_there(recipe: Recipe, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    step, _ = prepare(recipe, out)
    storage.remove_tree(storage.join(step.folder, MARKER))
    assert prepared(recipe, out) is None


def test_without_the_raw_files_nothing_can_be_told(recipe: Recipe, raw: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    prepare(recipe, out)
    (raw / "alpaca.json").unlink()
    assert prepared(recipe, out) is None
