"""Answers through Serve replicas: transformers' own greedy decoding, counted, kept, and asked for just once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from koala_ray.generate import batch
from koala_ray.generate.batch import ANSWERS, Generated, generate, read_answers, summary
from koala_ray.models.resolve import resolve
from koala_ray.prompts import Prompt, PromptSet, load_prompts
from koala_ray.recipe import GenerateSettings
from koala_ray.records import Turn
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.ray
SETTINGS = GenerateSettings(max_tokens=16, concurrent=3)


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> PromptSet:
    rows: list[dict[str, Any]] = [{"id": f"p{place}", "prompt": f"Say {'so ' * place}much."} for place in range(5)]
    rows.append({"id": "long", "prompt": "too long " * 200})
    rows.append({"id": "talk", "turns": ["Say something.", "And now?", "Really?"]})
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_prompts(str(file))


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("generate")


@pytest.fixture(scope="module")
def answered(ray_session, asked, out) -> Generated:
    (found,) = generate(["tiny"], [asked], SETTINGS, str(out))
    return found


@pytest.fixture
def no_replicas(monkeypatch):
    """Nothing may be asked any more."""
    monkeypatch.setattr(batch, "replicas", lambda *args: pytest.fail("replicas were started"))


def test_every_turn_is_accounted_for(answered, asked):
    figures = answered.figures
    assert (figures["asked"], figures["answered"], figures["failed"]) == (9, 8, 1)
    answers = read_answers(answered.step.folder)
    assert [(answer.id, answer.turn) for answer in answers] == [
        (prompt.id, turn) for prompt in asked.prompts for turn in range(len(prompt.turns))
    ]
    [failed] = [answer for answer in answers if answer.finish == "failed"]
    assert failed.id == "long"
    assert "don't fit into the model's" in failed.error
    assert figures["tokens"] == sum(answer.tokens for answer in answers)
    assert all(answer.model_hash and answer.prompt_set_hash == asked.hash() for answer in answers)
    assert all(answer.seconds > 0 for answer in answers if answer is not failed)


def test_answers_are_those_of_greedy_decoding_and_a_dialogue_grows_by_appending_ids(answered, asked):
    tokenizer = Tokenizer.load("tiny")
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny")).eval()
    turns: list[Turn] = []
    for answer in read_answers(answered.step.folder):
        if answer.finish == "failed":
            continue
        if answer.turn == 0:
            turns = []
            ids = prompt_ids([Turn("user", answer.prompt)], tokenizer)
        else:
            (asking,) = tokenizer.encode([f"USER: {answer.prompt} GPT:"])
            ids = [*turns, tokenizer.eos_id, *asking]
        expected = model.generate(
            torch.tensor([ids]), max_new_tokens=SETTINGS.max_tokens, do_sample=False, pad_token_id=tokenizer.eos_id
        )[0, len(ids) :].tolist()
        assert answer.prompt_tokens == len(ids)
        assert answer.answer_ids == [token for token in expected if token != tokenizer.eos_id]
        turns = [*ids, *answer.answer_ids]


def test_a_rerun_asks_nothing(answered, asked, out, no_replicas):
    before = (Path(answered.step.folder) / ANSWERS).stat().st_mtime_ns
    (again,) = generate(["tiny"], [asked], SETTINGS, str(out))
    assert again.figures["skipped"]
    assert (Path(again.step.folder) / ANSWERS).stat().st_mtime_ns == before


def test_another_set_asks_only_for_what_the_model_was_not_asked(answered, asked, out, no_replicas):
    other = PromptSet("other", (Prompt("x", asked.prompts[3].text), Prompt("y", asked.prompts[0].text)))
    (found,) = generate(["tiny"], [other], SETTINGS, str(out))
    known = {answer.prompt: answer.answer_ids for answer in read_answers(answered.step.folder)}
    answers = read_answers(found.step.folder)
    assert [answer.id for answer in answers] == ["x", "y"]
    assert [answer.answer_ids for answer in answers] == [known[answer.prompt] for answer in answers]


def test_the_same_seed_draws_the_same_answers_whatever_is_beside_them(ray_session, asked, tmp_path):
    drawn = {"max_tokens": 12, "temperature": 1.0, "top_p": 0.9, "n": 2, "repetition_penalty": 1.1}
    sets = [PromptSet("all", asked.prompts[:4]), PromptSet("one", asked.prompts[2:3])]
    together = generate(["tiny"], sets[:1], GenerateSettings(concurrent=8, **drawn), str(tmp_path / "a"))[0]
    alone = generate(["tiny"], sets[1:], GenerateSettings(concurrent=1, **drawn), str(tmp_path / "b"))[0]
    all_answers = read_answers(together.step.folder)
    picked = [answer for answer in all_answers if answer.id == asked.prompts[2].id]
    answers = read_answers(alone.step.folder)
    assert [answer.answer_ids for answer in answers] == [answer.answer_ids for answer in picked]
    assert len({answer.seed for answer in all_answers}) == 8
    assert answers[0].answer_ids != answers[1].answer_ids


def test_several_models_and_sets_are_counted_together(ray_session, asked, out, answered):
    short = PromptSet("short", asked.prompts[:2])
    found = generate(["base", "tiny"], [asked, short], SETTINGS, str(out), base="tiny")
    figures = summary(found, str(out))
    assert [one["prompt_set"] for one in figures["sets"]] == ["prompts", "short", "prompts", "short"]
    assert figures["asked"] == 2 * (9 + 2)
    assert figures["folder"] == str(out)


def test_a_replica_that_dies_loses_nothing(ray_session, tmp_path):
    """Killed while it has all prompts: they are asked again of the one that comes after it."""
    import ray

    prompts = PromptSet("many", tuple(Prompt(str(place), f"Count to {place}.") for place in range(12)))
    settings = GenerateSettings(max_tokens=200, concurrent=4)
    (quiet,) = generate(["tiny"], [prompts], settings, str(tmp_path / "quiet"))
    killed = []

    class Killing(batch.Asker):
        async def _ask_next(self, handle, dialogue):
            await super()._ask_next(handle, dialogue)
            if not killed:
                replica = next(iter(serve_replicas()))
                killed.append(replica)
                ray.kill(ray.get_actor(**replica))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "Asker", Killing)
        (found,) = generate(["tiny"], [prompts], settings, str(tmp_path / "killed"))
    assert killed
    assert found.figures["answered"] == 12
    assert [one.answer_ids for one in read_answers(found.step.folder)] == [
        one.answer_ids for one in read_answers(quiet.step.folder)
    ]


def serve_replicas() -> list[dict[str, str]]:
    import ray

    return [
        {"name": one["name"], "namespace": one["namespace"]}
        for one in ray.util.list_named_actors(all_namespaces=True)
        if one["name"].startswith("SERVE_REPLICA")
    ]
