"""Models without weights: what their code does with a packed row is told, and is what it does with weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from test_verify import RECIPE, pack_rows
from tried_models import NO_DROPOUT, small_config

from koala_ray.errors import KoalaError
from koala_ray.train.trial import trial_problems, try_out, unfit_code, without_weights

ANOTHER = "such as a Llama or a Qwen"
CONTEXT = 256


def problems(config: Any, dropout: float = 0.0) -> list[KoalaError]:
    """All that a trial finds, whether it goes through or not."""
    try:
        model = without_weights(config, dropout, "here")
        if unfit := unfit_code(model):
            return [KoalaError(unfit)]
        return list(trial_problems(dropout, CONTEXT, try_out(model, "here"), "here"))
    except KoalaError as error:
        return [error]


FIT = [
    ("Llama", {}),
    ("Starcoder2", {"sliding_window": CONTEXT, **NO_DROPOUT}),
    ("Qwen3", {"head_dim": 8}),
    ("GPTNeoX", {"tie_word_embeddings": False}),
    ("GPT2", NO_DROPOUT),
]


@pytest.mark.parametrize(("kind", "settings"), FIT, ids=lambda value: str(value)[:40])
def test_what_fits_has_no_problem(kind: str, settings: dict[str, Any]) -> None:
    assert problems(small_config(kind, **settings)) == []


UNFIT = [
    ("Llama", {"attention_dropout": 0.2}, "dropout of its own (0.2)", "attention_dropout to 0"),
    ("GPT2", {}, "dropout of its own (0.1)", "resid_pdrop, embd_pdrop, attn_pdrop"),
    ("Starcoder2", {"sliding_window": 64, **NO_DROPOUT}, "attends to the last 64 tokens", "--set tokens.context=64"),
    ("Gemma2", {"query_pre_attn_scalar": 8, "head_dim": 8}, "capped scores", ANOTHER),
    ("Granite", {"logits_scaling": 8.0}, "logits are not just its head's product", ANOTHER),
    ("Phi", {}, "logits are not just its head's product", ANOTHER),
    ("Bert", {"is_decoder": False}, "not all layers of the model are causal attention", ANOTHER),
    ("GPTJ", {}, "attention code of its own", ""),
    ("Bloom", {}, "attention code of its own", ""),
    ("Olmoe", {}, "mixture of experts", ""),
    ("ViT", {}, "no language model of type 'vit'", ANOTHER),
]


@pytest.mark.parametrize(("kind", "settings", "says", "mend"), UNFIT, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_told(kind: str, settings: dict[str, Any], says: str, mend: str) -> None:
    found = problems(small_config(kind, **settings))
    assert any(says in problem.error and mend in problem.mend for problem in found), [str(each) for each in found]


TRUE = [
    ("Llama", {}),
    ("Starcoder2", {"sliding_window": CONTEXT}),
    ("GPTNeoX", {}),
    ("GPT2", {}),
    ("OPT", {}),
    ("Olmo2", {}),
]
UNTRUE = [
    ("Cohere", {}),
    ("Granite", {"logits_scaling": 8.0}),
    ("Phi", {}),
    ("MiniCPM3", {"dim_model_base": 8, "num_key_value_heads": 4}),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows by the tiny model's tokenizer."""
    return f"{pack_rows(str(tmp_path_factory.mktemp('tokens'))).folder}/train"


@pytest.mark.parametrize(("kind", "settings"), TRUE + UNTRUE, ids=lambda value: str(value)[:40])
def test_what_is_accepted_gives_the_plain_models_loss_and_what_is_refused_does_not(
    shards: str, tmp_path: Any, kind: str, settings: dict[str, Any]
) -> None:
    """The trial without weights against the truth with them: packed rows under our loss, dialogues alone under its."""
    from koala_ray.train.attention import NAME
    from koala_ray.train.batch import micro_batch
    from koala_ray.train.data import read_rows
    from koala_ray.train.model import DialogueModel

    config = small_config(kind, **settings, **NO_DROPOUT)
    torch.manual_seed(0)
    plain = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for weight in plain.parameters():
        weight.data += 0.1 * torch.randn_like(weight)  # biases begin at zero, where nobody sees them
    plain.save_pretrained(tmp_path)
    isolated = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=NAME).eval()
    batch = micro_batch(read_rows(shards, 4, [0, 1]))
    with torch.no_grad():
        ours = DialogueModel(isolated, RECIPE.train)(batch)
        alone = [plain(input_ids=part).logits[0] for part in batch.input_ids.split(batch.dialogue_lengths, dim=1)]
        truth = torch.nn.functional.cross_entropy(torch.cat(alone)[batch.predictors], batch.targets, reduction="sum")
    found = problems(config)
    if (kind, settings) in TRUE:
        assert torch.allclose(ours, truth, rtol=1e-5)
        assert found == []
    else:
        assert not torch.allclose(ours, truth, rtol=1e-5)
        assert any("its head's product" in problem.error for problem in found)


def test_capped_logits_are_told_apart_from_capped_scores() -> None:
    settings = {"query_pre_attn_scalar": 8, "head_dim": 8}
    (logits,) = problems(small_config("Gemma2", **settings, attn_logit_softcapping=None))
    assert "logits are not just" in logits.error
    (scores,) = problems(small_config("Gemma2", **settings, final_logit_softcapping=None))
    assert "capped scores" in scores.error
    neither = {"final_logit_softcapping": None, "attn_logit_softcapping": None}
    assert problems(small_config("Gemma2", **settings, **neither)) == []


def test_the_recipes_dropout_reaches_the_attention_or_is_refused() -> None:
    assert problems(small_config("Llama"), dropout=0.1) == []
    (found,) = problems(small_config("GPT2", **NO_DROPOUT), dropout=0.1)
    assert "doesn't take the dropout of 0.1" in found.error
    assert found.mend == "--set train.dropout=0"


def test_a_trial_changes_no_configuration() -> None:
    config = small_config("Llama")
    before = config.to_dict()
    assert problems(config, dropout=0.1) == []
    assert config.to_dict() == before
