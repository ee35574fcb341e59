"""The same from an S3 endpoint as from a folder."""

from __future__ import annotations

import json
import os

import pytest
from conftest import koala
from faulty_s3 import FOREVER, FaultyS3
from object_store import new_bucket

from koala_ray import storage
from koala_ray.generate.batch import generate
from koala_ray.prepare import prepare
from koala_ray.prompts import load_prompts
from koala_ray.recipe_file import load_recipe
from koala_ray.samples import write_samples
from koala_ray.steps import is_committed
from koala_ray.train.step import train

pytestmark = pytest.mark.ray


def test_prepare_train_and_generate_on_s3(ray_session, s3_bucket, tiny_tokens, tmp_path):
    write_samples(tmp_path)
    storage.copy_tree(str(tmp_path), f"{s3_bucket}/raw")
    recipe = load_recipe("tiny", ["train.max_steps=4"], f"{s3_bucket}/raw")
    tokens, figures = prepare(recipe, f"{s3_bucket}/out")
    assert figures["content_hash"] == tiny_tokens.manifest.content_hash
    trained, training = train(recipe, tokens, f"{s3_bucket}/out")
    assert trained.folder.startswith("s3://")
    assert training["loss_last"] < training["loss_first"]
    prompts = load_prompts("sample", limit=2)
    settings = recipe.generate.model_copy(update={"max_tokens": 4})
    (answers,) = generate([training["model"]], [prompts], settings, f"{s3_bucket}/out")
    assert answers.figures["answered"] == 2
    assert answers.figures["checkpoint_step"] == 4
    _, again = train(recipe, tokens, f"{s3_bucket}/out")
    assert again["skipped"]


def test_prepare_through_an_endpoint_that_misbehaves_and_then_is_gone(s3_endpoint, ray_session, tiny_tokens, tmp_path):
    """Failures that pass cost nothing; one that stays ends the command with nothing half-written; a rerun goes on."""
    bucket = new_bucket()
    write_samples(tmp_path)
    storage.copy_tree(str(tmp_path), f"{bucket}/raw")
    with FaultyS3(s3_endpoint) as faulty:
        faulty.fail("GET .*hc3", times=2, status=503)
        faulty.fail("PUT .*examples", times=1, status=500)
        faulty.cut("GET .*alpaca[.]json", after=1000)
        faulty.slow(0.5, "GET .*hh")
        faulty.fail("PUT .*shard", times=FOREVER, status=503)
        env = {**os.environ, "AWS_ENDPOINT_URL": faulty.url, "AWS_MAX_ATTEMPTS": "3"}
        gone = koala("prepare", "tiny", "--data", f"{bucket}/raw", "--out", f"{bucket}/out", "--json", env=env)
        assert {"503", "500", "cut", "slow"} <= {request.fault for request in faulty.requests}
    assert gone.returncode == 2, gone.stderr
    error = json.loads(gone.stdout.splitlines()[-1])
    assert "can't be used" in error["error"]
    assert "shard" in error["where"]
    assert "Traceback" not in gone.stderr
    names = [file.relative for file in storage.list_files(f"{bucket}/out")]
    assert not [name for name in names if "shard" in name]
    assert [name.partition("-")[0] for name in names if name.endswith("_COMMITTED")] == ["curate"]
    tokens, figures = prepare(load_recipe("tiny", [], f"{bucket}/raw"), f"{bucket}/out")
    assert is_committed(figures["curated"])
    assert tokens.manifest.content_hash == tiny_tokens.manifest.content_hash
