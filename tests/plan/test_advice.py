from __future__ import annotations

import re

import pytest

from koala_ray.plan.advice import advise, fits, room_left
from koala_ray.plan.memory import footprint
from koala_ray.plan.shape import shape_of
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.train.check import settings_problems

SHAPE = shape_of("huggyllama/llama-13b")


def applied(recipe_name: str, sets: list[str], lines: list[str]) -> Recipe:
    changes = [change for line in lines for change in re.findall(r"--set (\S+)", line)]
    return load_recipe(recipe_name, [*sets, *changes])


@pytest.mark.parametrize(
    ("sets", "memory"),
    [
        (["train.zero_stage=1"], 80e9),
        (["train.zero_stage=0", "train.micro_rows=4", "train.activation_checkpointing=false"], 80e9),
        (["train.micro_rows=4", "train.activation_checkpointing=false"], 40e9),
        (["train.workers=1", "train.zero_stage=0", "train.batch_rows=8"], 80e9),
        (["train.workers=1", "train.zero_stage=0", "train.batch_rows=8"], 24e9),
    ],
)
def test_the_advice_taken_as_it_stands_makes_it_fit(sets: list[str], memory: float) -> None:
    recipe = load_recipe("koala-all-13b", sets)
    assert not fits(footprint(SHAPE, recipe, recipe.train.zero_stage), memory)
    lines = advise(recipe, SHAPE, memory)
    assert lines[-1].endswith("which fits")
    assert not any(line.endswith("which fits") for line in lines[:-1])
    changed = applied("koala-all-13b", sets, lines)
    assert fits(footprint(SHAPE, changed, changed.train.zero_stage), memory)


def test_each_line_says_what_it_saves() -> None:
    sets = ["train.micro_rows=4", "train.activation_checkpointing=false"]
    recipe = load_recipe("koala-all-13b", sets)
    first = advise(recipe, SHAPE, 80e9)[0]
    saved = footprint(SHAPE, recipe, 3).peak - footprint(SHAPE, applied("koala-all-13b", sets, [first]), 3).peak
    assert first.startswith("--set train.micro_rows=2  saves")
    assert f"saves {saved / 1e9:.1f} GB" in first


def test_a_run_that_should_have_fitted_is_told_so_and_gets_all_that_helps() -> None:
    recipe = load_recipe("koala-all-13b")
    lines = advise(recipe, SHAPE, 80e9)
    spare = (80e9 - footprint(SHAPE, recipe, 3).peak) / 1e9
    assert room_left(recipe, SHAPE, 80e9).startswith(f"the plan says it fits with {spare:.1f} GB to spare")
    assert room_left(recipe, SHAPE, 30e9) == ""
    assert len(lines) > 3
    assert any("offload_optimizer" in line for line in lines)
    assert not any("fits" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("koala-all-13b", []),
        ("koala-all-13b", ["train.zero_stage=0", "train.micro_rows=4", "train.activation_checkpointing=false"]),
        ("koala-all-13b", ["train.offload_weights=true"]),
        ("koala-all-13b", ["train.workers=1", "train.zero_stage=0", "train.batch_rows=8"]),
        ("koala-all-13b", ["lora.rank=8", "train.zero_stage=0"]),
        ("koala-smol", ["train.workers=2", "train.zero_stage=3"]),
    ],
)
def test_no_advice_ends_in_what_training_refuses(name: str, sets: list[str]) -> None:
    recipe = load_recipe(name, sets)
    lines = advise(recipe, shape_of(recipe.model.base), 1e9)
    assert lines
    for taken in range(1, len(lines) + 1):
        changed = applied(name, sets, lines[:taken])
        assert not list(settings_problems(changed)), lines[:taken]


def test_adapters_are_offered_with_a_stage_that_trains_them() -> None:
    sets = ["train.workers=2", "train.zero_stage=3"]
    last = advise(load_recipe("koala-smol", sets), shape_of("smollm2-135m"), 1e8)[-1]
    assert last.startswith("--set lora.rank=16 --set train.zero_stage=2  saves ")


def test_what_can_never_fit_gets_everything_and_no_promise() -> None:
    recipe = load_recipe("koala-all-13b", ["train.workers=1", "train.zero_stage=0", "train.batch_rows=8"])
    lines = advise(recipe, SHAPE, 1e9)
    assert lines
    assert not any("fits" in line for line in lines)


def test_cpus_are_not_told_to_offload() -> None:
    recipe = load_recipe("koala-smol")
    assert not any("offload" in line for line in advise(recipe, shape_of("smollm2-135m"), 1e9))
