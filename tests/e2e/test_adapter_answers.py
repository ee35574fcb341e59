"""A prompt set is answered by an adapter by itself, on Serve replicas, as by peft's unmerged model."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from koala_ray.generate.batch import generate, read_answers
from koala_ray.models.resolve import fingerprint, resolve
from koala_ray.prompts import load_prompts
from koala_ray.recipe import GenerateSettings
from koala_ray.records import Turn
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.ray


def test_an_adapter_answers_beside_its_base(ray_session, tmp_path):
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_pretrained(resolve("tiny"))
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    adapted.peft_config["default"].base_model_name_or_path = "tiny"
    adapter = tmp_path / "my-adapter"
    adapted.save_pretrained(adapter, save_embedding_layers=False)

    models, settings = ["base", str(adapter)], GenerateSettings(max_tokens=8, concurrent=2)
    base, found = generate(models, [load_prompts("sample", 3)], settings, str(tmp_path / "out"), base="tiny")
    answers = read_answers(found.step.folder)
    assert {(answer.model, answer.model_hash) for answer in answers} == {(str(adapter), fingerprint(str(adapter)))}
    assert found.model.title == "my-adapter"
    assert [answer.answer_ids for answer in answers] != [one.answer_ids for one in read_answers(base.step.folder)]

    tokenizer = Tokenizer.load("tiny")
    unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(resolve("tiny")), adapter).eval()
    for answer in answers:
        ids = prompt_ids([Turn("user", answer.prompt)], tokenizer)
        expected = unmerged.generate(
            input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.eos_id
        )[0, len(ids) :].tolist()
        assert answer.answer_ids == [token for token in expected if token != tokenizer.eos_id]
