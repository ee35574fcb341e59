"""The same from an S3 endpoint as from a folder."""

from __future__ import annotations

import pytest

from koala_ray import storage
from koala_ray.generate.step import generate
from koala_ray.prepare import prepare
from koala_ray.prompts import load_prompts
from koala_ray.recipe import load_recipe
from koala_ray.samples import write_samples
from koala_ray.train.step import train

pytestmark = pytest.mark.ray


def test_prepare_train_and_generate_on_s3(ray_session, s3_bucket, tiny_tokens, tmp_path):
    write_samples(tmp_path)
    storage.copy_from_local(tmp_path, f"{s3_bucket}/raw")
    recipe = load_recipe("tiny", ["train.max_steps=4"], f"{s3_bucket}/raw")
    tokens, figures = prepare(recipe, f"{s3_bucket}/out")
    assert figures["content_hash"] == tiny_tokens.manifest.content_hash
    trained, training = train(recipe, tokens, f"{s3_bucket}/out")
    assert trained.folder.startswith("s3://")
    assert training["loss_last"] < training["loss_first"]
    prompts = load_prompts("sample", limit=2)
    settings = recipe.generate.model_copy(update={"max_tokens": 4})
    _, answers = generate(training["model"], prompts, settings, f"{s3_bucket}/out")
    assert answers["answered"] == 2
    _, again = train(recipe, tokens, f"{s3_bucket}/out")
    assert again["skipped"]
