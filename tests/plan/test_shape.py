from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from koala_ray.errors import KoalaError
from koala_ray.models.resolve import resolve
from koala_ray.plan.shape import known_shapes, shape_of
from koala_ray.recipe_file import load_recipe, recipe_names

PUBLISHED = {
    "huggyllama/llama-7b": 6_738_415_616,
    "huggyllama/llama-13b": 13_015_864_320,
    "huggyllama/llama-30b": 32_528_943_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "smollm2-135m": 134_515_008,
}
"""Parameters as the models' hub pages count them."""


@pytest.mark.parametrize(("base", "count"), PUBLISHED.items())
def test_parameters_are_those_published(base: str, count: int) -> None:
    assert shape_of(base).parameters == count


@pytest.mark.parametrize("recipe", recipe_names())
def test_the_packaged_recipes_bases_are_known(recipe: str) -> None:
    assert load_recipe(recipe).model.base in known_shapes()


def test_a_folders_config_gives_the_shape() -> None:
    folder = Path(resolve("tiny"))
    shape = shape_of(str(folder))
    weights = load_file(folder / "model.safetensors")
    assert shape.parameters == sum(weight.size for weight in weights.values())
    known = shape_of("tiny")
    assert {**vars(shape), "name": ""} == {**vars(known), "name": ""}


def test_a_train_steps_folder_stands_for_its_model(tmp_path: Path) -> None:
    os.symlink(resolve("tiny"), tmp_path / "model")
    assert shape_of(str(tmp_path)).hidden == shape_of("tiny").hidden


def test_unknown_models_are_refused_without_asking_the_hub(tmp_path: Path) -> None:
    for base in ("nobody/nothing-7b", str(tmp_path), "s3-like"):
        with pytest.raises(KoalaError, match="doesn't know this model's shape"):
            shape_of(base)


def test_models_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt_neox", "hidden_size": 8}))
    with pytest.raises(KoalaError, match="gpt_neox"):
        shape_of(str(tmp_path))


def test_adapters_are_counted_as_peft_counts_them() -> None:
    shape = shape_of("tiny")
    # q: 128 → 128, k: 128 → 64; 5 layers, rank 8.
    assert shape.adapter_parameters(8, ["q_proj", "k_proj"]) == 5 * 8 * (128 + 128 + 128 + 64)
