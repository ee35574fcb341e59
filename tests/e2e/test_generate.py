"""Answers: the same as transformers' own greedy decoding gives for the same ids; counted; failures kept apart."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from koala_ray.generate.step import ANSWERS, generate, read_answers
from koala_ray.models.resolve import resolve
from koala_ray.prompts import load_prompts
from koala_ray.recipe import GenerateSettings
from koala_ray.records import Turn
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def answered(ray_session, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    prompts = [{"id": f"p{place}", "prompt": f"Say {'so ' * place}much."} for place in range(5)]
    prompts.append({"id": "long", "prompt": "too long " * 200})
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    settings = GenerateSettings(max_tokens=16, concurrent=3)
    asked = load_prompts(str(file))
    return generate("tiny", asked, settings, str(folder)), asked, settings, folder


def test_every_prompt_is_accounted_for(answered):
    (result, figures), asked, _, _ = answered
    assert figures["asked"] == 6
    assert figures["answered"] == 5
    assert figures["failed"] == 1
    answers = read_answers(result.folder)
    assert [answer.id for answer in answers] == [prompt.id for prompt in asked.prompts]
    [failed] = [answer for answer in answers if answer.finish == "failed"]
    assert failed.id == "long"
    assert "leaves no room" in failed.error
    assert figures["tokens"] == sum(answer.tokens for answer in answers)


def test_answers_are_those_of_greedy_decoding(answered):
    (result, _), asked, settings, _ = answered
    tokenizer = Tokenizer.load("tiny")
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny")).eval()
    for prompt, answer in zip(asked.prompts, read_answers(result.folder), strict=True):
        if answer.finish == "failed":
            continue
        ids = prompt_ids([Turn("user", prompt.text)], tokenizer)
        expected = model.generate(
            torch.tensor([ids]), max_new_tokens=settings.max_tokens, do_sample=False, pad_token_id=tokenizer.eos_id
        )[0, len(ids) :].tolist()
        assert answer.prompt_tokens == len(ids)
        assert answer.answer_ids == [token for token in expected if token != tokenizer.eos_id]


def test_a_rerun_asks_nothing(answered):
    (result, _), asked, settings, folder = answered
    before = (folder / result.folder / ANSWERS).stat().st_mtime_ns
    again, figures = generate("tiny", asked, settings, str(folder))
    assert figures["skipped"]
    assert again.folder == result.folder
    assert (folder / again.folder / ANSWERS).stat().st_mtime_ns == before
