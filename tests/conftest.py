"""What all tests share: one Ray for the session, the real data where it is, tokenizers, small helpers."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import new_bucket

from koala_ray.quiet import set_switches
from koala_ray.records import Turn

set_switches()
ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
LOGICAL_CPUS = 4
"""More than a small machine has: tests with two workers must not wait for CPUs that aren't there."""


def koala(
    *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None, seconds: float = 300
) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, without a terminal, as a script would."""
    command = [sys.executable, "-m", "koala_ray", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env, cwd=cwd)


@pytest.fixture(scope="session")
def s3_endpoint():
    """A real S3 endpoint on this machine, named by the environment that Ray's workers inherit."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield settings["AWS_ENDPOINT_URL"]
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def s3_bucket(s3_endpoint) -> str:
    """The URI of an empty bucket."""
    import boto3

    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket="koala-e2e")
    return "s3://koala-e2e"


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to store things, once a folder and once on S3: the same must hold for both."""
    if request.param == "folder":
        return str(tmp_path / "root")
    request.getfixturevalue("s3_endpoint")
    return new_bucket()


@pytest.fixture(scope="session")
def ray_session(s3_endpoint):
    """One private Ray for all tests that need one in this process."""
    os.environ.pop("RAY_ADDRESS", None)
    from koala_ray import session

    os.environ["KOALA_RAY_CPUS"] = str(LOGICAL_CPUS)
    ray = session.connect()
    yield ray
    ray.shutdown()
    del os.environ["KOALA_RAY_CPUS"]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real rows of the sources; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("KOALA_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set KOALA_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def sentencepiece_folder(tmp_path_factory) -> Path:
    """A folder with a real LLaMA-shaped SentencePiece model of 32,000 pieces, as LLaMA publishes one."""
    spec = importlib.util.find_spec("mistral_common")
    assert spec is not None, "install the test requirements: make install"
    folder = tmp_path_factory.mktemp("sentencepiece")
    source = Path(spec.submodule_search_locations[0]) / "data" / "tokenizer.model.v1"
    shutil.copy(source, folder / "tokenizer.model")
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 32000}))
    return folder


@pytest.fixture(scope="session")
def tokenizers(sentencepiece_folder):
    """The three kinds of tokenizer, by name: bytes, SentencePiece, byte-pair."""
    from koala_ray.tokens.tokenizer import Tokenizer

    bases = {"bytes": "tiny", "sentencepiece": str(sentencepiece_folder), "smollm2": "smollm2-135m"}
    return {name: Tokenizer.load(base) for name, base in bases.items()}


def golden_dialogues() -> dict[str, list[Turn]]:
    """The dialogues of the golden file, as turns."""
    cases = json.loads((GOLDEN / "template.json").read_text(encoding="utf-8"))
    return {name: [Turn(**turn) for turn in case["turns"]] for name, case in cases.items()}


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory) -> Iterator[None]:
    """A process group of this process alone, under which DeepSpeed runs on the CPU."""
    import torch
    import torch.distributed as dist
    from deepspeed.ops import __compatible_ops__ as ops

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_ACCELERATOR", "cpu")
        patch.setenv("LOCAL_RANK", "0")
        patch.setitem(ops, "deepspeed_shm_comm", False)  # it would be compiled first
        # DeepSpeed remembers its groups for good: what is there already is taken, and stays.
        if not dist.is_initialized():
            meet = tmp_path_factory.mktemp("group") / "meet"
            dist.init_process_group("gloo", init_method=f"file://{meet}", rank=0, world_size=1)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_tokens(ray_session, tmp_path_factory):
    """The sample corpus, prepared for the tiny model, with short rows: many dialogues, uneven learnt tokens."""
    from koala_ray.prepare import prepare
    from koala_ray.recipe_file import load_recipe

    recipe = load_recipe("tiny")
    return prepare(recipe, str(tmp_path_factory.mktemp("tiny")))[0]


@pytest.fixture(scope="session")
def short_tokens(tiny_tokens):
    """The same in rows of 160 tokens, for what is trained many times over."""
    from koala_ray.prepare import prepare
    from koala_ray.recipe_file import load_recipe

    return prepare(load_recipe("tiny", ["tokens.context=160"]), tiny_tokens.folder.rsplit("/", 1)[0])[0]
