"""The settings by themselves: what they hold to, and what they come to."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from koala_ray.errors import KoalaError
from koala_ray.recipe import Recipe, TrainSettings
from koala_ray.recipe_file import load_recipe, recipe_names


def test_the_yaml_shows_every_setting() -> None:
    shown = yaml.safe_load(load_recipe("tiny").to_yaml())
    assert set(shown) == set(Recipe.model_fields)
    assert set(shown["train"]) == set(TrainSettings.model_fields)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 16))
def test_any_batch_divides_or_the_proposed_one_does(batch: int, workers: int, micro: int) -> None:
    sets = [f"train.batch_rows={batch}", f"train.workers={workers}", f"train.micro_rows={micro}"]
    try:
        recipe = load_recipe("tiny", sets)
    except KoalaError as error:
        recipe = load_recipe("tiny", [*sets, error.mend.removeprefix("set ")])
        assert recipe.train.batch_rows != batch
    train = recipe.train
    assert train.accumulation * train.workers * train.micro_rows == train.batch_rows


def test_a_recipe_is_frozen() -> None:
    recipe = load_recipe("tiny")
    with pytest.raises(ValidationError):
        recipe.train.lr = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        recipe.name = "other"  # type: ignore[misc]


def test_the_hash_is_of_what_matters() -> None:
    base = load_recipe("tiny")
    assert base.hash() == load_recipe("tiny", ["name=other", "about=something else"]).hash()
    for item in ("train.lr=1e-5", "data.seed=1", "tokens.context=128", "generate.top_p=0.5", "data.sources.hc3=[a]"):
        assert base.hash() != load_recipe("tiny", [item]).hash()
    assert re.fullmatch("[0-9a-f]{64}", base.hash())


def test_the_recipes_differ_in_what_they_learn() -> None:
    assert len({load_recipe(name).hash() for name in recipe_names()}) == len(recipe_names())


def test_a_range_of_workers_names_the_fewest_and_the_most() -> None:
    train = load_recipe("tiny", ["train.workers=[1, 4]", "train.micro_rows=1"]).train
    assert (train.min_workers, train.workers) == (1, 4)
    # Only numbers that divide the batch of 8 rows.
    assert [train.workers_for(room) for room in range(7)] == [0, 1, 2, 2, 4, 4, 4]
    assert TrainSettings(**train.model_dump(mode="json")) == train


def test_without_a_range_a_run_needs_all_its_workers() -> None:
    train = load_recipe("tiny", ["train.workers=2"]).train
    assert [train.workers_for(room) for room in (0, 1, 2, 9)] == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("item", "wrong"),
    [
        ("train.workers=[1, 2, 4]", "the fewest and the most"),
        ("train.workers=[4, 2]", "min_workers 4 is more than workers 2"),
        ("train.checkpoint_minutes=old", "checkpoint_minutes"),
    ],
)
def test_impossible_ranges_are_refused(item: str, wrong: str) -> None:
    with pytest.raises(KoalaError, match=wrong):
        load_recipe("tiny", [item])
