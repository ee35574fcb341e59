"""One's own rows of questions and answers, under any usual name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import JSON

from koala_ray.records import Turn
from koala_ray.sources.base import Found, RowRejected
from koala_ray.sources.identity import ANSWERS, QUESTIONS, SOURCE


def parsed(row: object) -> list[Found]:
    """What a row gives, after a look at what must hold for it."""
    founds = list(SOURCE.parse(row, 0))
    assert founds
    for found in founds:
        if found.dialogue is None:
            assert found.reason
            continue
        assert [turn.role for turn in found.dialogue] == ["user", "assistant"] * (len(found.dialogue) // 2)
        assert all(turn.text.strip() for turn in found.dialogue)
        assert any(turn.learn for turn in found.dialogue)
    return founds


def parsed_or_rejected(row: object) -> list[Found] | str:
    """What a row gives, or the reason why it gives nothing."""
    try:
        return parsed(row)
    except RowRejected as rejected:
        return rejected.reason


WHO = (Turn("user", "Who are you?"), Turn("assistant", "A language model.", "positive", learn=True))


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_question_and_an_answer_under_any_usual_name(question: str, answer: str) -> None:
    (found,) = parsed({question: " Who are you?\n", answer: " A language model. "})
    assert found == Found("", WHO)


def test_the_first_field_that_is_there_is_taken() -> None:
    row = {"question": None, "instruction": "Who are you?", "prompt": "x", "output": "A language model."}
    assert parsed(row) == [Found("", WHO)]
    assert parsed({**row, "conversations": None}) == [Found("", WHO)]


def test_conversations_are_read_as_sharegpt_s() -> None:
    said = [("human", "Who are you?"), ("gpt", "A language model."), ("human", "Whose?"), ("gpt", "Ours.")]
    (found,) = parsed({"conversations": [{"from": role, "value": text} for role, text in said]})
    assert found.dialogue
    assert found.dialogue[:2] == WHO
    assert [turn.text for turn in found.dialogue] == [text for _, text in said]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (None, "not a JSON object"),
        (["Who are you?"], "not a JSON object"),
        ({}, "missing field: question"),
        ({"question": "Who are you?"}, "missing field: answer"),
        ({"question": "Who are you?", "answer": None}, "missing field: answer"),
        ({"answer": "A language model."}, "missing field: question"),
        ({"prompt": 5, "response": "x"}, "not a text: prompt"),
        ({"question": "Who are you?", "answer": ["x"]}, "not a text: answer"),
        ({"question": " ", "answer": "x"}, "empty question"),
        ({"question": "x", "answer": "\n"}, "empty answer"),
        ({"conversations": "x"}, "not a list: conversations"),
    ],
)
def test_identity_rejects(row: object, why: str) -> None:
    with pytest.raises(RowRejected) as caught:
        parsed(row)
    assert caught.value.reason == why


def test_the_source_has_nothing_to_fetch() -> None:
    assert (SOURCE.files, SOURCE.licence, SOURCE.published_rows) == ((), "your own", None)
    assert SOURCE.many_answers, "one question, several answers"


TEXT = st.sampled_from(["", " ", "a", "b\n", "\ud800"]) | JSON
MESSAGE = st.fixed_dictionaries(
    {}, optional={"from": st.sampled_from(["human", "gpt", "system"]) | JSON, "value": TEXT}
)
FIELDS = {"conversations": st.lists(MESSAGE | JSON, max_size=4) | JSON, **dict.fromkeys((*QUESTIONS, *ANSWERS), TEXT)}


@settings(deadline=None, max_examples=300)
@given(st.fixed_dictionaries({}, optional=FIELDS) | JSON)
def test_any_row_is_kept_or_rejected(row: Any) -> None:
    found = parsed_or_rejected(row)
    assert found
    assert found == parsed_or_rejected(row)
