"""The same from an S3 endpoint as from a folder."""

from __future__ import annotations

import json
import os

import pytest
from conftest import koala
from faulty_s3 import FOREVER, FaultyS3
from object_store import new_bucket

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


def prepared_through(faulty: FaultyS3, out: str, attempts: int):
    """Prepare the raw files of the bucket in a process whose way to S3 is the proxy."""
    env = {**os.environ, "AWS_ENDPOINT_URL": faulty.url, "AWS_MAX_ATTEMPTS": str(attempts)}
    return koala("prepare", "tiny", "--data", f"{out.rsplit('/', 1)[0]}/raw", "--out", out, "--json", env=env)


def test_prepare_through_an_endpoint_that_misbehaves_and_one_that_is_gone(s3_endpoint, tiny_tokens, tmp_path):
    bucket = new_bucket()
    write_samples(tmp_path)
    storage.copy_from_local(tmp_path, f"{bucket}/raw")
    with FaultyS3(s3_endpoint) as faulty:
        faulty.fail("GET .*hc3", times=2, status=503)
        faulty.fail("PUT .*examples", times=1, status=500)
        faulty.cut("GET .*alpaca[.]json", after=1000)
        faulty.slow(0.5, "GET .*hh")
        done = prepared_through(faulty, f"{bucket}/out", attempts=4)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["content_hash"] == tiny_tokens.manifest.content_hash
        assert {"503", "500", "cut", "slow"} <= {request.fault for request in faulty.requests}
        faulty.clear()
        faulty.fail("PUT .*shard", times=FOREVER, status=503)
        gone = prepared_through(faulty, f"{bucket}/gone", attempts=2)
    assert gone.returncode == 2, gone.stderr
    error = json.loads(gone.stdout.splitlines()[-1])
    assert "can't be used" in error["error"]
    assert "shard" in error["where"]
    assert "Traceback" not in gone.stderr
    names = [file.relative for file in storage.list_files(f"{bucket}/gone")]
    assert not [
        name for name in names if name.startswith("tokens-") and ("shard" in name or name.endswith("_COMMITTED"))
    ]
    assert [name for name in names if name.startswith("curate-") and name.endswith("_COMMITTED")]
