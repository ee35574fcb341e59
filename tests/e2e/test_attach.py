"""A run that goes on is asked with the weights of its latest committed checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from koala_ray.errors import KoalaError
from koala_ray.generate.batch import generate
from koala_ray.generate.model import open_model
from koala_ray.models.resolve import resolve
from koala_ray.prompts import load_prompts
from koala_ray.recipe import GenerateSettings
from koala_ray.recipe_file import load_recipe
from koala_ray.steps import MANIFEST, MARKER
from koala_ray.train.step import MODEL, train

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def trained(ray_session, tiny_tokens, tmp_path_factory):
    """A finished run, with low-rank adapters, whose last checkpoint is its last step."""
    recipe = load_recipe("tiny", ["train.max_steps=3", "train.checkpoint_every=2", "lora.rank=2", "train.lr=0.01"])
    return train(recipe, tiny_tokens, str(tmp_path_factory.mktemp("attach")))[0]


@pytest.fixture
def going_on(trained, tmp_path) -> Path:
    """The same run as if it had not written its model yet."""
    folder = tmp_path / Path(trained.folder).name
    shutil.copytree(trained.folder, folder)
    shutil.rmtree(folder / MODEL)
    (folder / MANIFEST).unlink()
    (folder / MARKER).unlink()
    return folder


def weights(model: str) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(resolve(model)).state_dict()


def test_the_weights_are_those_of_the_last_checkpoint(trained, going_on):
    found, finished = open_model(str(going_on)), open_model(trained.folder)
    assert found.step == finished.step == 3
    attached, expected = weights(found.place), weights(finished.place)
    assert attached.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(attached[name], weight, rtol=0, atol=1e-6)
    base = weights("tiny")
    assert any(not torch.equal(base[name], weight) for name, weight in attached.items())


def test_a_damaged_checkpoint_is_passed_over(going_on):
    last = max((going_on / "checkpoints").glob("step-*/shard-00000.safetensors"))
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes(data)
    assert open_model(str(going_on)).step == 2


def test_a_run_without_a_checkpoint_says_so(going_on):
    shutil.rmtree(going_on / "checkpoints")
    with pytest.raises(KoalaError, match="no checkpoint yet"):
        open_model(str(going_on))


def test_a_run_is_found_by_its_recipes_name_and_answers_say_its_step(trained, going_on):
    out = str(going_on.parent)
    (found,) = generate(["tiny-run"], [load_prompts("sample", 2)], GenerateSettings(max_tokens=4), named(going_on, out))
    assert found.figures["checkpoint_step"] == 3
    assert found.model.name == str(going_on)
    with pytest.raises(KoalaError, match="no run of that name"):
        open_model("another", out)


def named(run: Path, out: str) -> str:
    """Give the run's recipe a name that is no bundled model's."""
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: tiny", "name: tiny-run"))
    return out
