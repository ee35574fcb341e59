from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.curate.keywords import Keywords
from koala_ray.recipe import KOALA_KEYWORDS
from koala_ray.records import Turn

KOALA = Keywords(KOALA_KEYWORDS)


def dialogue(question: str, answer: str) -> tuple[Turn, ...]:
    return Turn("user", question), Turn("assistant", answer, "positive", learn=True)


@pytest.mark.parametrize("word", KOALA_KEYWORDS)
@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_each_word_is_found_in_any_case_and_in_either_role(word: str, change) -> None:
    text = f"As a model by ({change(word)}), I can't."
    assert KOALA.reason(dialogue(text, "Yes.")) == f"self-reference: {word}"
    assert KOALA.reason(dialogue("Why?", text)) == f"self-reference: {word}"


@pytest.mark.parametrize("text", ["An open question about AI.", "GPT 3", "A chat about GPT.", "open\nai", ""])
def test_other_words_stay(text: str) -> None:
    assert KOALA.reason(dialogue(text, text)) is None


def test_the_first_message_names_the_reason() -> None:
    assert KOALA.reason(dialogue("What is GPT-3?", "It is by OpenAI.")) == "self-reference: gpt-3"


def test_the_words_are_those_that_are_asked_for() -> None:
    filter_ = Keywords(["Vicuna"])
    assert filter_.reason(dialogue("Who is VICUNA?", "ChatGPT")) == "self-reference: vicuna"
    assert filter_.reason(dialogue("Who?", "ChatGPT")) is None


@given(st.text(), st.sampled_from(KOALA_KEYWORDS), st.text())
def test_a_word_is_found_wherever_it_stands(before: str, word: str, after: str) -> None:
    assert KOALA.reason(dialogue("Who?", before + word + after)) is not None


def test_real_questions_about_the_makers_are_found(real_data) -> None:
    prompts = [json.loads(line)["prompt"] for line in (real_data / "prompts/koala_test_set.jsonl").open()]
    assert sorted(filter(None, (KOALA.reason(dialogue(prompt, "Yes.")) for prompt in prompts))) == [
        "self-reference: gpt-3",
        "self-reference: openai",
    ]
