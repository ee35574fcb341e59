"""Adapters that can't be merged are refused with what is wrong, where, and how to mend it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from made_adapters import edit, make_adapter, make_base
from peft import IA3Config
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from koala_ray.errors import KoalaError
from koala_ray.models.resolve import check, resolve

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "home"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return make_adapter(tmp_path / "adapter", base)


def refused(adapter: Path, *, before: bool = False) -> KoalaError:
    """Why an adapter is refused; ``before`` anything is built, too."""
    if before:
        with pytest.raises(KoalaError) as early:
            check(str(adapter))
    with pytest.raises(KoalaError) as caught:
        resolve(str(adapter))
    if before:
        assert str(early.value) == str(caught.value)
    else:
        check(str(adapter))
    assert caught.value.where.startswith(str(adapter))
    assert caught.value.mend
    return caught.value


def change(adapter: Path, changed) -> None:
    """Save other weights: what a function makes of those that are there."""
    save_file(changed(load_file(adapter / WEIGHTS)), adapter / WEIGHTS, metadata={"format": "pt"})


def test_a_base_that_is_not_there(adapter):
    error = refused(edit(adapter, base_model_name_or_path="/far/away/llama"), before=True)
    assert error.error == "the adapter's base model /far/away/llama can't be had: the base model is not there"
    assert error.where == str(adapter / "adapter_config.json")
    assert f"write the base's place as base_model_name_or_path into {adapter}/adapter_config.json" in error.mend
    assert "smollm2-135m, tiny" in error.mend


def test_a_base_that_the_hub_does_not_give(adapter):
    error = refused(edit(adapter, base_model_name_or_path="nobody/nothing"))
    assert "nobody/nothing can't be had: the base model can't be had from Hugging Face" in error.error


def test_a_revision_of_the_base(adapter):
    error = refused(edit(adapter, base_model_name_or_path="nobody/nothing", revision="v2"))
    assert "the revision v2 of nobody/nothing" in error.error
    assert "hf download nobody/nothing --revision v2" in error.mend


def test_no_base_named(adapter):
    assert "names no base model" in refused(edit(adapter, base_model_name_or_path=None), before=True).error


def test_adapters_that_are_each_others_base(tmp_path, base, adapter):
    other = make_adapter(tmp_path / "other", base)
    edit(adapter, base_model_name_or_path=str(other))
    edit(other, base_model_name_or_path=str(adapter))
    assert "the adapter is its own base" in refused(adapter, before=True).error


def test_another_kind_of_adapter(tmp_path, base):
    ia3 = make_adapter(tmp_path / "ia3", base, kind=IA3Config, feedforward_modules=["down_proj"])
    assert "peft's kind IA3: only LORA" in refused(ia3, before=True).error


def test_another_task(adapter):
    assert "trained for SEQ_CLS" in refused(edit(adapter, task_type="SEQ_CLS"), before=True).error


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_settings_that_are_none(adapter, text):
    (adapter / "adapter_config.json").write_text(text)
    assert "settings can't be read" in refused(adapter, before=True).error


def test_no_weights(adapter):
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    assert f"weights are not there ({WEIGHTS})" in refused(adapter, before=True).error


def test_damaged_weights(adapter):
    (adapter / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:-100])
    assert "weights can't be read" in refused(adapter).error


def test_a_whole_model_in_the_same_folder(base, adapter):
    for file in base.iterdir():
        (adapter / file.name).write_bytes(file.read_bytes())
    assert "which one is meant?" in refused(adapter, before=True).error


def test_a_base_of_another_size(tmp_path, adapter):
    error = refused(edit(adapter, base_model_name_or_path=str(make_base(tmp_path / "wide", hidden_size=64))))
    assert "doesn't fit its base model" in error.error
    assert "size mismatch for base_model.model.model.layers.0" in error.error
    assert "\n" not in error.error


def test_a_base_with_fewer_layers(tmp_path, adapter):
    error = refused(edit(adapter, base_model_name_or_path=str(make_base(tmp_path / "low", num_hidden_layers=1))))
    assert "of its weights have no place there, such as model.layers.1." in error.error


def test_modules_that_the_base_does_not_have(adapter):
    assert "c_attn" in refused(edit(adapter, target_modules=["c_attn"])).error


def test_some_modules_that_the_base_does_not_have(adapter):
    change(adapter, lambda weights: {name.replace("v_proj", "w_proj"): one for name, one in weights.items()})
    assert "w_proj.lora_A" in refused(adapter).error


def test_weights_that_are_lacking(adapter):
    change(adapter, lambda weights: {name: one for name, one in weights.items() if "layers.1" not in name})
    assert "lacks 6 of the weights" in refused(adapter).error


def test_a_saved_module_that_is_lacking(tmp_path, base):
    adapter = make_adapter(tmp_path / "saved", base, modules_to_save=["lm_head"])
    change(adapter, lambda weights: {name: one for name, one in weights.items() if "lm_head" not in name})
    assert "lm_head" in refused(adapter).error


def test_weights_that_are_no_numbers(home, adapter):
    change(adapter, lambda weights: {name: one * float("nan") for name, one in weights.items()})
    error = refused(adapter)
    assert "can't be merged: NaNs" in error.error
    assert not list(home.glob("models/*/*")), "a refused merge leaves nothing"


def test_an_adapter_that_depends_on_the_prompt(tmp_path, base):
    adapter = make_adapter(tmp_path / "activated", base, alora_invocation_tokens=[1, 2])
    assert "can't be merged" in refused(adapter).error


def test_settings_of_a_later_peft(adapter):
    refused_ = refused(edit(adapter, use_new_sum=True, peft_version="9.9"))
    assert "the adapter's setting use_new_sum" in refused_.error
    assert "9.9" in refused_.mend
    resolve(str(edit(adapter, use_new_sum=False)))


def test_a_quantized_base(base, adapter):
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(KoalaError, match="is quantized"):
        resolve(str(adapter))


def test_a_tokenizer_with_more_tokens_than_the_model(tmp_path):
    base = make_base(tmp_path / "base", vocab_size=259)
    adapter = make_adapter(tmp_path / "adapter", base)
    tokenizer = AutoTokenizer.from_pretrained(resolve("tiny"))
    tokenizer.add_tokens(["koala"])
    tokenizer.save_pretrained(adapter)
    assert "ids up to 259, its model only 259 tokens" in refused(adapter).error


def test_an_embedding_with_more_tokens_than_the_head(tmp_path, base):
    adapter = make_adapter(tmp_path / "adapter", base, tokens=70)
    change(adapter, lambda weights: {name: one for name, one in weights.items() if "lm_head" not in name})
    assert "its embeddings and its head have [70] tokens, the base model 64" in refused(adapter).error


def test_an_adapter_that_changes_while_it_is_merged(monkeypatch, adapter):
    from koala_ray.models import merge

    whole = merge.merge

    def slowly(*given):
        whole(*given)
        change(adapter, lambda weights: {name: one + torch.ones(1) for name, one in weights.items()})

    monkeypatch.setattr(merge, "merge", slowly)
    assert "was changed while it was merged" in refused(adapter).error
    monkeypatch.setattr(merge, "merge", whole)
    resolve(str(adapter))
