"""Preflight: each impossible combination is refused with its mend, all of them at once, without loading weights."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_verify import END, SETS, again, pack_rows
from tried_models import NO_DROPOUT, small_config

from koala_ray import storage
from koala_ray.errors import KoalaError, KoalaErrors
from koala_ray.models.files import tokenizer_files
from koala_ray.models.resolve import resolve
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.steps import StepResult
from koala_ray.train.check import check, settings_problems, slow_in_bfloat16
from koala_ray.train.step import train

ANOTHER = "such as a Llama or a Qwen"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> StepResult:
    """Rows of up to 256 tokens by the tiny model's tokenizer."""
    return pack_rows(str(tmp_path_factory.mktemp("tokens")))


@pytest.fixture
def base(tmp_path) -> Callable[..., str]:
    """Makes a base model's folder: a configuration and the tiny model's tokenizer, no weights."""

    def make(kind: str, **settings: Any) -> str:
        folder = tmp_path / kind
        small_config(kind, **settings).save_pretrained(folder)
        for file in tokenizer_files(Path(resolve("tiny"))):
            shutil.copy(file, folder)
        return str(folder)

    return make


def recipe(*sets: str, base: str = "tiny") -> Recipe:
    return load_recipe("tiny", [*SETS, f"model.base={base}", *sets])


def refusal(tokens: StepResult, *sets: str, base: str = "tiny") -> KoalaError:
    with pytest.raises(KoalaError) as caught:
        check(recipe(*sets, base=base), tokens)
    return caught.value


def all_of(error: KoalaError) -> list[KoalaError]:
    return list(error.problems) if isinstance(error, KoalaErrors) else [error]


FIT = [("tiny", {}), ("Llama", {}), ("Llama", {"pad_token_id": END}), ("GPT2", NO_DROPOUT)]


@pytest.mark.parametrize(("kind", "settings"), FIT, ids=lambda value: str(value))
def test_what_fits_is_accepted(tokens, base, kind, settings):
    check(recipe(base=kind if kind == "tiny" else base(kind, **settings)), tokens)


UNFIT = [
    (
        "Llama",
        {"max_position_embeddings": 128},
        "256 tokens is longer than the model's 128",
        "--set tokens.context=128",
    ),
    ("Llama", {"eos_token_id": 5}, "the model stops at 5", '"eos_token_id": 1'),
    ("Llama", {"vocab_size": 100}, "the tokenizer has 259 ids, the model 100", "tokenizer that belongs"),
    ("Starcoder2", {"sliding_window": 64, **NO_DROPOUT}, "attends to the last 64 tokens", "--set tokens.context=64"),
    ("Olmoe", {}, "the model is a mixture of experts", ANOTHER),
    ("GPTJ", {}, "attention code of its own", ANOTHER),
    ("Lfm2", {"layer_types": ["conv", "full_attention"]}, "don't keep packed dialogues apart: conv", ANOTHER),
    ("Mamba", {}, "don't keep packed dialogues apart: linear_attention", ANOTHER),
    ("FalconH1", {}, "packed dialogue", ANOTHER),
    ("T5", {}, "an encoder and a decoder", ANOTHER),
    ("PaliGemma", {}, "several models", ANOTHER),
    ("Llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "is quantized", ANOTHER),
    ("ViT", {}, "no language model of type 'vit'", ANOTHER),
]


@pytest.mark.parametrize(("kind", "settings", "says", "mend"), UNFIT, ids=lambda value: str(value)[:40])
def test_a_model_that_cannot_be_tuned_is_refused(tokens, base, kind, settings, says, mend):
    found = all_of(refusal(tokens, base=base(kind, **settings)))
    assert any(says in problem.error and mend in problem.mend for problem in found), [str(each) for each in found]


def test_a_model_that_nobody_knows_is_refused(tokens, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    found = refusal(tokens, base=str(tmp_path))
    assert "transformers can't read the model" in found.error
    assert "nonesuch" in found.error


def test_a_base_that_is_not_there_is_one_problem_among_others(tokens):
    found = all_of(refusal(tokens, "train.offload_weights=true", base="/nowhere/at/all"))
    assert [problem.where for problem in found] == ["train.offload_weights", "/nowhere/at/all"]


SETTINGS = [
    (["train.offload_optimizer=true"], "ZeRO 1 to 3 only", "--set train.zero_stage=2"),
    (["train.offload_weights=true", "train.zero_stage=2"], "not under ZeRO-2", "--set train.zero_stage=3"),
    (["train.loss=liger"], "runs on GPUs only", "--set train.loss=auto"),
    (["cost.budget=100"], "a budget of $100", "--set cost.price="),
    (["lora.rank=8", "train.zero_stage=3"], "adapters are not trained under ZeRO-3", "--set train.zero_stage=2"),
    (
        ["lora.alpha=32", "lora.dropout=0.1"],
        "lora.rank is 0",
        "--set lora.rank=16, or leave out lora.alpha, lora.dropout",
    ),
]


@pytest.mark.parametrize(("sets", "says", "mend"), SETTINGS, ids=lambda value: str(value)[:40])
def test_settings_that_do_not_go_together_are_refused(sets, says, mend):
    (found,) = settings_problems(recipe(*sets))
    assert says in found.error
    assert mend in found.mend


def test_a_package_that_a_report_needs_is_one_problem_among_others(tokens, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # how Python notes a module that can't be imported
    found = all_of(refusal(tokens, "report.mlflow=file:runs", "train.offload_weights=true"))
    assert [problem.where for problem in found] == ["train.offload_weights", "report.mlflow"]
    assert "--set report.mlflow=" in found[1].mend


def test_a_damaged_plan_is_refused_before_it_is_read(tmp_path):
    rows = again(pack_rows(str(tmp_path)))
    storage.write_atomic(f"{rows.folder}/train/plan.parquet", b"damaged")
    with pytest.raises(KoalaError, match="not what was written: train/plan"):
        train(recipe(), rows, str(tmp_path))


def test_mends_do_not_contradict_each_other():
    """Adapters can't have ZeRO-3, so it isn't offered to them for offloading."""
    (found,) = settings_problems(recipe("lora.rank=8", "train.offload_weights=true"))
    assert found.mend == "--set train.offload_weights=false"


SOUND = [
    ["train.zero_stage=3", "train.offload_optimizer=true", "train.offload_weights=true"],
    ["train.zero_stage=2", "lora.rank=8", "lora.alpha=32"],
    ["train.precision=bfloat16", "train.gpus_per_worker=1"],
    ["cost.budget=100", "cost.price=1.5"],
    ["train.dropout=0.1"],
]


@pytest.mark.parametrize("sets", SOUND, ids=str)
def test_settings_that_go_together_are_accepted(tokens, sets):
    check(recipe(*sets), tokens)


def test_a_recipe_changed_in_python_is_checked_for_its_batch():
    whole = recipe()
    odd = whole.model_copy(update={"train": whole.train.model_copy(update={"batch_rows": 5, "micro_rows": 4})})
    (found,) = settings_problems(odd)
    assert "batch_rows 5 doesn't divide" in found.error
    assert "--set train.batch_rows=4" in found.mend


@pytest.mark.parametrize(
    ("cpu", "slow"),
    [
        ({"architecture": "x86_64", "avx512_bw": False}, True),
        ({"architecture": "x86_64", "avx512_bw": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_bfloat16_is_refused_on_a_cpu_that_crawls_in_it(monkeypatch, cpu, slow):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)  # this machine has only one CPU to try
    assert slow_in_bfloat16() is slow
    found = [problem.where for problem in settings_problems(recipe("train.precision=bfloat16"))]
    assert found == (["train.precision"] if slow else [])
    assert not list(settings_problems(recipe("train.precision=bfloat16", "train.gpus_per_worker=1")))


@pytest.mark.parametrize("targets", ["[q_proj, v_proj]", "[gate_proj]"])
def test_adapters_on_linear_layers_are_accepted(tokens, targets):
    check(recipe("lora.rank=4", f"lora.targets={targets}"), tokens)


def test_adapters_without_a_layer_are_refused_with_those_there_are(tokens, base):
    found = refusal(tokens, "lora.rank=4", "lora.targets=[q_prj, v_proj]")
    assert found.error == "the model has no linear layer q_prj for an adapter"
    assert found.mend.startswith("did you mean q_proj? ")
    assert "--set 'lora.targets=[down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj]'" in found.mend
    gpt2 = base("GPT2", **NO_DROPOUT)
    assert "[c_attn, c_fc, c_proj]" in refusal(tokens, "lora.rank=4", base=gpt2).mend
    check(recipe("lora.rank=4", "lora.targets=[c_attn]", base=gpt2), tokens)


def test_an_adapter_on_the_head_is_refused(tokens):
    assert "no linear layer lm_head" in refusal(tokens, "lora.rank=4", "lora.targets=[q_proj, lm_head]").error


def test_everything_is_refused_at_once(tokens, base):
    other = replace(tokens, manifest=replace(tokens.manifest, inputs={**tokens.manifest.inputs, "tokenizer": "other"}))
    sets = ("train.offload_weights=true", "train.epochs=3", "lora.rank=4", "lora.targets=[query]")
    folder = base("Starcoder2", max_position_embeddings=128, sliding_window=64, **NO_DROPOUT)
    found = refusal(other, *sets, base=folder)
    assert isinstance(found, KoalaErrors)
    places = ["train.offload_weights", tokens.folder, tokens.folder, "tokens.context", "lora.targets", "tokens.context"]
    assert [problem.where for problem in found.problems] == places
    assert all(problem.mend for problem in found.problems)
    text = str(found)
    assert text.startswith("6 problems\n  1. ")
    assert all(f"{number}. {problem.error}" in text for number, problem in enumerate(found.problems, start=1))


def test_what_works_but_is_not_meant_is_noted(tokens, capsys):
    check(recipe("train.warmup_steps=100", "train.zero_stage=1", "train.offload_optimizer=true"), tokens)
    said = capsys.readouterr().err
    assert "the warm-up of 100 steps takes the whole run of 2" in said
    assert "offloading saves nothing without GPUs" in said
