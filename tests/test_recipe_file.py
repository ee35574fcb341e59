"""Recipes from files and overrides: what they load, and how what is wrong in them is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.errors import KoalaError
from koala_ray.recipe import SOURCE_NAMES
from koala_ray.recipe_file import load_recipe, recipe_names

NAMES = ["koala-all-13b", "koala-all-7b", "koala-distill-13b", "koala-distill-7b", "koala-smol", "tiny"]


def refused(name: str = "tiny", *sets: str, data: str | None = None) -> KoalaError:
    with pytest.raises(KoalaError) as caught:
        load_recipe(name, sets, data)
    assert caught.value.error
    assert caught.value.where
    assert caught.value.mend
    assert "\n" not in caught.value.error + caught.value.where + caught.value.mend
    return caught.value


def in_file(folder: Path, text: str | bytes) -> str:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_the_packaged_recipes() -> None:
    assert recipe_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_recipe_loads_and_comes_back_from_its_yaml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.about
    assert recipe.train.accumulation * recipe.train.micro_rows * recipe.train.workers == recipe.train.batch_rows
    again = load_recipe(in_file(tmp_path, recipe.to_yaml()))
    assert again == recipe
    assert again.hash() == recipe.hash()
    assert again.to_yaml() == recipe.to_yaml()


@pytest.mark.parametrize(
    ("item", "part", "key", "expected"),
    [
        ("train.lr=1e-5", "train", "lr", 1e-5),
        ("train.lr=1E-5", "train", "lr", 1e-5),
        ("train.lr=2.5e-5", "train", "lr", 2.5e-5),
        ("train.lr=+1e+0", "train", "lr", 1.0),
        ("train.lr=0.001", "train", "lr", 0.001),
        ("train.lr=1", "train", "lr", 1.0),
        (" train.lr = 1e-5", "train", "lr", 1e-5),
        ("train.max_steps=7", "train", "max_steps", 7),
        ("tokens.context=1e3", "tokens", "context", 1000),
        ("train.activation_checkpointing=true", "train", "activation_checkpointing", True),
        ("train.activation_checkpointing=True", "train", "activation_checkpointing", True),
        ("train.activation_checkpointing=yes", "train", "activation_checkpointing", True),
        ("train.activation_checkpointing=off", "train", "activation_checkpointing", False),
        ("curate.decontaminate=off", "curate", "decontaminate", "off"),
        ("train.betas=[0.8, 0.9]", "train", "betas", (0.8, 0.9)),
        ("train.precision=bfloat16", "train", "precision", "bfloat16"),
        ("model.base=./folder=1", "model", "base", "./folder=1"),
        ("model.base=a/b", "model", "base", "a/b"),
        ('data.sources.hc3=["my/*.jsonl"]', "data", "sources", {"hc3": ["my/*.jsonl"]}),
        ("data.sources={hc3: [a], alpaca: [b, c]}", "data", "sources", {"hc3": ["a"], "alpaca": ["b", "c"]}),
        ("data.heldout=0", "data", "heldout", 0.0),
        ("data.repeats.hh=0.5", "data", "repeats", {"hh": 0.5}),
        ("curate.against=[koala, vicuna]", "curate", "against", ("koala", "vicuna")),
        ("curate.language=any", "curate", "language", "any"),
        ("generate={max_tokens: 5}", "generate", "max_tokens", 5),
    ],
)
def test_an_override_is_read_as_yaml(item: str, part: str, key: str, expected: object) -> None:
    value = getattr(getattr(load_recipe("tiny", [item]), part), key)
    assert value == expected
    assert type(value) is type(expected)


def test_overrides_add_up_and_the_last_one_wins() -> None:
    recipe = load_recipe("koala-all-7b", ["data.sources.hc3=[x]", "train.lr=1", "train.lr=2", "data.seed=3"], "s3://b")
    assert (recipe.train.lr, recipe.data.seed, recipe.data.root) == (2.0, 3, "s3://b")
    assert recipe.data.sources == {"hc3": ["x"]}
    assert recipe.data.mixture == load_recipe("koala-all-7b").data.mixture == "koala-all"
    assert load_recipe("koala-all-7b").data.sources == {}, "an override reached the next load"


@pytest.mark.parametrize("text", ["", "data:\n", "data: 5\n", "about: x\n"])
def test_the_data_folder_goes_into_any_recipe(tmp_path: Path, text: str) -> None:
    for root in ("/raw", "1e5", "yes", "null", "a: b"):
        assert load_recipe(in_file(tmp_path, text or "about: y"), data=root).data.root == root


@settings(deadline=None, max_examples=50)
@given(st.floats(min_value=1e-12, max_value=1e3))
def test_any_float_as_python_prints_it(value: float) -> None:
    assert load_recipe("tiny", [f"train.lr={value!r}"]).train.lr == value
    assert load_recipe("tiny", [f"train.lr={value:e}"]).train.lr == float(f"{value:e}")


@pytest.mark.parametrize(
    ("item", "nearest"),
    [
        ("train.Lr=1", "train.lr"),
        ("trian.lr=1", "train.lr"),
        ("lr=1e-5", "train.lr"),
        ("max_tokens=3", "generate.max_tokens"),
        ("train.warmup=3", "train.warmup_steps"),
        ("train..lr=1", "train.lr"),
        ("train.lr.x=1", "train.lr"),
        ("token.context=100", "tokens.context"),
        ("data.sources.hc4=[a]", "data.sources.hc3"),
        ("data.sources.sharedgpt=[a]", "data.sources.sharegpt"),
    ],
)
def test_an_unknown_key_of_an_override_names_the_nearest(item: str, nearest: str) -> None:
    error = refused("tiny", item)
    key = item.partition("=")[0]
    assert error.error == f"there is no setting {key!r}"
    assert error.where == f"--set {item}"
    assert error.mend.startswith(f"did you mean {nearest}? ")
    assert "recipe show" in error.mend


def test_an_unknown_key_near_none_points_to_the_list_of_all() -> None:
    assert refused("tiny", "zzz.qqq=1").mend.startswith("`koala-ray recipe show")


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("trian: {lr: 1}", "trian", "train"),
        ("tokens: {contxt: 64}", "tokens.contxt", "tokens.context"),
        ("train:\n  lr: 1\n  learn_rate: 2", "train.learn_rate", "train."),
        ("train: {warmup: 2}", "train.warmup", "train.warmup_steps"),
        ("generate: {max_token: 2}", "generate.max_token", "generate.max_tokens"),
    ],
)
def test_an_unknown_key_of_a_file_names_the_nearest(tmp_path: Path, text: str, key: str, nearest: str) -> None:
    name = in_file(tmp_path, text)
    error = refused(name)
    assert error.error == f"there is no setting {key!r}"
    assert error.where == name
    assert error.mend.startswith(f"did you mean {nearest}")


def test_an_unknown_source_of_a_file_names_the_nearest(tmp_path: Path) -> None:
    name = in_file(tmp_path, "data: {sources: {hc4: [a.jsonl]}}")
    error = refused(name)
    assert (error.error, error.where) == ("there is no source 'hc4'", f"{name}: data.sources")
    assert error.mend.startswith("did you mean hc3?")
    assert all(source in error.mend for source in SOURCE_NAMES)


@pytest.mark.parametrize(
    ("item", "where", "got"),
    [
        ("train.lr=fast", "train.lr", "'fast'"),
        ("train.lr=0", "train.lr", "0"),
        ("train.lr=.nan", "train.lr", "nan"),
        ("train.lr=.inf", "train.lr", "inf"),
        ("train.lr=", "train.lr", "None"),
        ("train.workers=0", "train.workers", "0"),
        ("train.workers=1.5", "train.workers", "1.5"),
        ("train.zero_stage=4", "train.zero_stage", "4"),
        ("train.betas=[0.9]", "train.betas", "[0.9]"),
        ("train.precision=fp8", "train.precision", "'fp8'"),
        ("train=5", "train", "5"),
        ("data.heldout=1", "data.heldout", "1"),
        ("data.heldout=-0.1", "data.heldout", "-0.1"),
        ("data.sources.hc3=a.jsonl", "data.sources.hc3", "'a.jsonl'"),
        ("data.sources.hc3=[]", "data.sources.hc3", "[]"),
        ("data.sources.hc3=[1]", "data.sources.hc3", "1"),
        ("tokens.context=8", "tokens.context", "8"),
        ("model.base=5", "model.base", "5"),
        ("model.attention=flash", "model.attention", "'flash'"),
        ("generate.top_p=0", "generate.top_p", "0"),
    ],
)
def test_a_bad_value_says_where_and_what_was_given(item: str, where: str, got: str) -> None:
    error = refused("tiny", item)
    assert error.where.startswith(f"tiny: {where}")
    assert error.mend == f"got {got}"


@pytest.mark.parametrize("item", ["train.lr", "=5", "", "  "])
def test_an_override_without_key_or_value(item: str) -> None:
    with pytest.raises(KoalaError) as caught:
        load_recipe("tiny", [item])
    assert "key and a value" in caught.value.error
    assert "--set train.lr=1e-5" in caught.value.mend


@pytest.mark.parametrize("item", ["train.betas=[0.9", "about={a", "about='x", "about=a: b: c"])
def test_an_override_that_is_not_yaml(item: str) -> None:
    assert "not valid YAML" in refused("tiny", item).error


@pytest.mark.parametrize(
    "sets",
    [
        ["train.batch_rows=3"],
        ["train.workers=3"],
        ["train.batch_rows=1", "train.workers=2", "train.micro_rows=8"],
        ["train.batch_rows=1001", "train.workers=7", "train.micro_rows=3"],
    ],
)
def test_a_batch_that_does_not_divide_proposes_one_that_does(sets: list[str]) -> None:
    error = refused("tiny", *sets)
    assert error.where == "tiny: train"
    proposed = re.fullmatch(r"set (train\.batch_rows=\d+)", error.mend)
    assert proposed
    recipe = load_recipe("tiny", [*sets, proposed[1]])
    assert recipe.train.batch_rows % (recipe.train.workers * recipe.train.micro_rows) == 0


def test_no_such_recipe_names_the_nearest_and_all() -> None:
    error = refused("koala-smoll")
    assert error.where == "koala-smoll"
    assert error.mend.startswith("did you mean koala-smol? ")
    assert all(name in error.mend for name in NAMES)
    assert "did you mean" not in refused("xyz").mend


@pytest.mark.parametrize("name", ["../recipes/tiny", "tiny.yml", "./tiny", "TINY"])
def test_a_name_is_no_path(name: str) -> None:
    assert refused(name).where == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a YAML mapping"),
        ("- a\n", "not a YAML mapping"),
        ("tiny", "not a YAML mapping"),
        ("a:\n\tb: 1\n", "not valid YAML"),
        ("{", "not valid YAML"),
        (b"\xff\xfe\x00\x01", "not valid YAML"),
        ("!!python/object:os.system {}", "not valid YAML"),
        ("5: x\n", "Keys should be strings"),
        ("true: x\n", "Keys should be strings"),
        ("train: {5: 3}\n", "Keys should be strings"),
        ("train:\n", "valid dictionary"),
        ("data: {sources: }\n", "valid dictionary"),
        ("name: 5\n", "valid string"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str | bytes, message: str) -> None:
    name = in_file(tmp_path, text)
    error = refused(name)
    assert message in error.error
    assert error.where.startswith(name)


def test_a_file_is_named_after_itself_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert load_recipe(in_file(tmp_path, "about: x")).name == "mine"
    assert load_recipe(in_file(tmp_path, "name: other")).name == "other"


def test_a_file_writes_numbers_as_people_do(tmp_path: Path) -> None:
    assert load_recipe(in_file(tmp_path, "train: {lr: 1e-5, eps: 1E-8}")).train.lr == 1e-5
