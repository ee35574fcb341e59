"""An adapter by itself stands for its base with the adapter merged: the logits of peft's own unmerged model."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_adapters import SMALL, edit, logits, make_adapter, make_base, prompt, unmerged_logits
from object_store import new_bucket
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from koala_ray import storage
from koala_ray.generate.replica import Ask, Replica
from koala_ray.generate.sampling import Sampling
from koala_ray.models import merge
from koala_ray.models.merge import ORIGIN
from koala_ray.models.resolve import check, fingerprint, resolve
from koala_ray.recipe import LoraSettings, TrainSettings
from koala_ray.records import Turn
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.train.model import load_model


@pytest.fixture(scope="module")
def smollm2() -> str:
    """Its folder in the usual cache: unpacking it anew takes long."""
    return resolve("smollm2-135m")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return make_adapter(tmp_path / "adapter", base)


@pytest.fixture
def no_merging(monkeypatch: pytest.MonkeyPatch):
    """Call it, and nothing may be merged any more."""
    return lambda: monkeypatch.setattr(merge, "merge", lambda *given: pytest.fail("merged again"))


def stamps(folder: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(folder).rglob("*")}


def assert_merged(adapter: Path, base: str | Path, tokens: int = 0) -> str:
    """The merged model says what peft's says and not what the base does; returns its folder."""
    folder = resolve(str(adapter))
    ids = prompt(tokens or AutoModelForCausalLM.from_pretrained(base).config.vocab_size)
    expected = unmerged_logits(adapter, base, ids, tokens)
    torch.testing.assert_close(logits(folder, ids), expected, rtol=1e-4, atol=1e-4)
    if not tokens:
        assert (logits(base, ids) - expected).abs().max() > 0.01
    return folder


def test_tiny_by_its_name(tmp_path, no_merging):
    adapter = make_adapter(tmp_path / "adapter", resolve("tiny"))
    edit(adapter, base_model_name_or_path="tiny")
    folder = assert_merged(adapter, resolve("tiny"))
    written = stamps(folder)
    no_merging()
    assert resolve(str(adapter)) == resolve(f"{adapter}/") == folder
    assert stamps(folder) == written


def test_smollm2(smollm2, tmp_path):
    assert_merged(make_adapter(tmp_path / "adapter", smollm2, target_modules="all-linear"), smollm2)


KINDS = {
    "rank by layer, rsLoRA": {"target_modules": "all-linear", "use_rslora": True, "rank_pattern": {"q_proj": 2}},
    "DoRA": {"use_dora": True},
    "PiSSA": {"init_lora_weights": "pissa"},
    "biases": {"bias": "lora_only"},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding and head": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "both as one": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    "embedding whole": {"modules_to_save": ["embed_tokens"]},
    "head whole": {"modules_to_save": ["lm_head"]},
    "both whole": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "both whole as one": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "norm whole": {"modules_to_save": ["norm"]},
    "some tokens": {"trainable_token_indices": [3, 4]},
}


@pytest.mark.parametrize("tied", [False, True], ids=["two matrices", "one matrix"])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_many_kinds(tmp_path, kind, tied):
    """Where embedding and head are one matrix, an adapter of one of them makes them two."""
    base = make_base(tmp_path / "base", tie_word_embeddings=tied, attention_bias=kind == "biases")
    assert_merged(make_adapter(tmp_path / "adapter", base, **KINDS[kind]), base)


@pytest.mark.parametrize("tied", [False, True], ids=["two matrices", "one matrix"])
def test_a_head_stays_the_embedding_where_the_adapter_leaves_both(tmp_path, tied):
    base = make_base(tmp_path / "base", tie_word_embeddings=tied)
    folder = Path(resolve(str(make_adapter(tmp_path / "adapter", base))))
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] == tied
    sizes = [(place / "model.safetensors").stat().st_size for place in (base, folder)]
    assert abs(sizes[0] - sizes[1]) < 100


@pytest.mark.parametrize("tied", [False, True], ids=["two matrices", "one matrix"])
def test_added_tokens_come_with_the_adapter(tmp_path, tied):
    base = make_base(tmp_path / "base", vocab_size=259, tie_word_embeddings=tied)
    adapter = make_adapter(tmp_path / "adapter", base, tokens=261)
    tokenizer = AutoTokenizer.from_pretrained(resolve("tiny"))
    tokenizer.add_tokens(["koala", "eucalyptus"])
    tokenizer.save_pretrained(adapter)
    folder = assert_merged(adapter, base, tokens=261)
    ids = AutoTokenizer.from_pretrained(folder)("koala").input_ids
    assert Tokenizer.load(str(adapter)).encode(["koala"]) == [ids] == [[259]]
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == 261


def test_without_a_tokenizer_of_its_own_it_has_the_bases(tmp_path):
    adapter = make_adapter(tmp_path / "adapter", resolve("tiny"))
    (adapter / "tokenizer_config.json").write_text("{}")  # no tokenizer by itself
    folder = Path(resolve(str(adapter)))
    assert (folder / "tokenizer.json").read_bytes() == Path(resolve("tiny"), "tokenizer.json").read_bytes()
    assert Tokenizer.load(str(adapter)).fingerprint() == Tokenizer.load("tiny").fingerprint()


def test_it_is_added_in_float32_and_stored_as_the_base_is(tmp_path):
    base = make_base(tmp_path / "base", torch.bfloat16)
    adapter = make_adapter(tmp_path / "adapter", base)
    stored = AutoModelForCausalLM.from_pretrained(resolve(str(adapter)))
    assert stored.dtype == torch.bfloat16
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    exact = PeftModel.from_pretrained(network, adapter).merge_and_unload().state_dict()
    for name, weight in stored.state_dict().items():
        assert torch.equal(weight, exact[name].to(torch.bfloat16)), name


def test_what_training_exports_is_what_its_adapter_merges_to(tmp_path):
    from koala_ray.checkpoint.export import write_model

    torch.manual_seed(0)
    model = load_model("tiny", TrainSettings(), LoraSettings(rank=4), {})
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    run = tmp_path / "run"
    write_model(model, "tiny", run)
    assert json.loads((run / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    exported = AutoModelForCausalLM.from_pretrained(run).state_dict()
    merged = AutoModelForCausalLM.from_pretrained(resolve(str(run / "adapter"))).state_dict()
    assert exported.keys() == merged.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(weight, exported[name], rtol=0, atol=1e-6)
    assert Tokenizer.load(str(run / "adapter")).fingerprint() == Tokenizer.load(str(run)).fingerprint()


def test_what_is_changed_is_merged_anew(tmp_path, base, adapter):
    first, hash_ = resolve(str(adapter)), fingerprint(str(adapter))
    make_adapter(adapter, base, seed=1)  # of the same size
    second = assert_merged(adapter, base)
    assert second != first
    assert fingerprint(str(adapter)) != hash_
    make_base(base, initializer_range=0.2)
    assert assert_merged(adapter, base) not in (first, second)
    assert Path(first, "config.json").exists()


def test_the_same_adapter_elsewhere_is_the_same_model(tmp_path, adapter, no_merging):
    folder = resolve(str(adapter))
    shutil.copytree(adapter, tmp_path / "copy")
    no_merging()
    assert resolve(str(tmp_path / "copy")) == folder
    assert fingerprint(str(tmp_path / "copy")) == fingerprint(str(adapter)) == fingerprint(folder)


def test_where_it_comes_from_is_kept_and_no_part_of_the_hash(tmp_path, base, adapter):
    hash_ = fingerprint(str(adapter))
    (adapter / "recipe.yaml").write_text("name: mine\n")
    origin = json.loads(Path(resolve(str(adapter)), ORIGIN).read_text())
    assert origin == {"adapter": str(adapter), "base": str(base), "recipe": "name: mine\n"}
    assert fingerprint(str(adapter)) == hash_


def test_an_adapter_of_an_adapted_model(tmp_path, base, adapter):
    whole = resolve(str(adapter))
    second = make_adapter(tmp_path / "second", whole, seed=1)
    edit(second, base_model_name_or_path=str(adapter))
    check(str(second))
    assert_merged(second, whole)


def test_on_object_storage(s3_endpoint, tmp_path, base, adapter):
    bucket = new_bucket()
    edit(adapter, base_model_name_or_path=f"{bucket}/base")
    storage.copy_tree(str(base), f"{bucket}/base")
    storage.copy_tree(str(adapter), f"{bucket}/adapter")
    check(f"{bucket}/adapter")
    assert not (tmp_path / "home").exists()
    ids = prompt(SMALL["vocab_size"])
    first = resolve(f"{bucket}/adapter")
    torch.testing.assert_close(logits(first, ids), unmerged_logits(adapter, base, ids), rtol=1e-4, atol=1e-4)
    assert resolve(f"{bucket}/adapter") == first
    edit(make_adapter(adapter, base, seed=1), base_model_name_or_path=f"{bucket}/base")
    storage.copy_tree(str(adapter), f"{bucket}/adapter")  # files of the same sizes
    second = resolve(f"{bucket}/adapter")
    assert second != first
    torch.testing.assert_close(logits(second, ids), unmerged_logits(adapter, base, ids), rtol=1e-4, atol=1e-4)


RESOLVE = "import sys; from koala_ray.models.resolve import resolve; print(resolve(sys.argv[1]))"
DIE = "import os; from koala_ray.models import merge; merge._copy_tokenizer = lambda *given: os.kill(os.getpid(), 9); "


def test_two_processes_merge_once(adapter):
    both = [
        subprocess.Popen([sys.executable, "-c", RESOLVE, str(adapter)], stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert said[0][0] == said[1][0] == resolve(str(adapter)) + "\n"
    assert sum(stderr.count("merging the adapter") for _, stderr in said) == 1


def test_a_killed_process_leaves_nothing_half(home, base, adapter):
    killed = subprocess.run([sys.executable, "-c", DIE + RESOLVE, str(adapter)], capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    (part,) = home.glob("models/merged-*.part")
    assert (part / "model.safetensors").exists()
    assert os.listdir(part.with_suffix("")) == []
    assert Path(assert_merged(adapter, base)) == part.with_suffix("")
    assert not part.exists()


def test_a_replica_answers_as_the_unmerged_model_does(tmp_path):
    adapter = make_adapter(tmp_path / "adapter", resolve("tiny"))
    network = AutoModelForCausalLM.from_pretrained(resolve("tiny"), dtype=torch.float32)
    ids = prompt_ids([Turn("user", "What do koalas eat?")], Tokenizer.load("tiny"))
    expected = PeftModel.from_pretrained(network, adapter).generate(
        input_ids=torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=-1
    )[0, len(ids) :]
    replica = Replica(str(adapter), "transformers", {"concurrent": 2, "cpus": 1, "gpus": 0})
    reply = asyncio.run(replica.reply(Ask(Sampling(12), turns=[Turn("user", "What do koalas eat?")])))
    assert reply.ids == expected.tolist()
