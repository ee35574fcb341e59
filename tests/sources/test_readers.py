"""Alpaca's and HC3's rows, and how messages become a dialogue."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.records import Role, Turn
from koala_ray.sources import alpaca, hc3
from koala_ray.sources.base import Found, RowRejected, alternate


def texts(found: Found) -> list[tuple[str, str]]:
    assert found.dialogue is not None, found.reason
    return [(turn.role, turn.text) for turn in found.dialogue]


# Alpaca


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"instruction": " Name a tree. ", "input": "", "output": " An oak. \n"}, "Name a tree."),
        ({"instruction": "Name a tree.", "output": "An oak."}, "Name a tree."),
        ({"instruction": "Name a tree.", "input": None, "output": "An oak."}, "Name a tree."),
        ({"instruction": "Translate:", "input": "chêne", "output": "An oak."}, "Translate: chêne"),
        ({"instruction": "", "input": "Name a tree.", "output": "An oak."}, "Name a tree."),
        ({"instruction": "Name a tree.", "input": "No input is valid here.", "output": "An oak."},
         "Name a tree. No input is valid here."),
    ],
)  # fmt: skip
def test_alpaca_asks_with_the_instruction_and_the_input(row: dict[str, Any], asked: str) -> None:
    dialogue = (Turn("user", asked), Turn("assistant", "An oak.", "positive", learn=True))
    assert list(alpaca.parse(row, 0)) == [Found("", dialogue)]


@pytest.mark.parametrize(
    "marker", ["<noinput>", "<noinput> \n", "Noinput", "No input", "no input.", "<No Input>", "(no input)", "no_input"]
)
def test_alpaca_leaves_out_what_says_that_there_is_no_input(marker: str) -> None:
    (found,) = alpaca.parse({"instruction": "Name a tree.", "input": marker, "output": "An oak."}, 0)
    assert texts(found) == [("user", "Name a tree."), ("assistant", "An oak.")]
    assert found.repairs == ("no-input marker dropped",)
    with pytest.raises(RowRejected, match="empty question"):
        list(alpaca.parse({"instruction": " ", "input": marker, "output": "An oak."}, 0))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"input": "", "output": "x"}, "missing field: instruction"),
        ({"instruction": "x"}, "missing field: output"),
        ({"instruction": None, "output": "x"}, "missing field: instruction"),
        ({"instruction": "x", "output": None}, "missing field: output"),
        ({"instruction": 5, "output": "x"}, "not a text: instruction"),
        ({"instruction": "x", "input": 5, "output": "x"}, "not a text: input"),
        ({"instruction": "x", "output": ["x"]}, "not a text: output"),
        ({"instruction": " ", "input": "\n", "output": "x"}, "empty question"),
        ({"instruction": "x", "output": " \n"}, "empty answer"),
        ({}, "missing field: instruction"),
        ([], "not a JSON object"),
        (None, "not a JSON object"),
        ("text", "not a JSON object"),
        (5, "not a JSON object"),
    ],
)
def test_alpaca_rejects(row: object, why: str) -> None:
    with pytest.raises(RowRejected) as caught:
        list(alpaca.parse(row, 0))
    assert caught.value.reason == why


# HC3


def test_hc3_gives_an_example_for_each_answer() -> None:
    row = {"question": " Why? ", "human_answers": ["Because.", " So. "], "chatgpt_answers": ["As a model…"], "id": "7"}
    found = list(hc3.parse(row, 0))
    assert [item.side for item in found] == ["human0", "human1", "chatgpt0"]
    assert [texts(item) for item in found] == [
        [("user", "Why?"), ("assistant", "Because.")],
        [("user", "Why?"), ("assistant", "So.")],
        [("user", "Why?"), ("assistant", "As a model…")],
    ]
    assert all([turn.learn for turn in item.dialogue or ()] == [False, True] for item in found)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"human_answers": ["x"], "chatgpt_answers": ["x"]}, "missing field: question"),
        ({"question": None, "human_answers": ["x"], "chatgpt_answers": ["x"]}, "missing field: question"),
        ({"question": 5, "human_answers": ["x"], "chatgpt_answers": ["x"]}, "not a text: question"),
        ({"question": " ", "human_answers": ["x"], "chatgpt_answers": ["x"]}, "empty question"),
        ([1], "not a JSON object"),
    ],
)
def test_hc3_rejects_a_row_without_a_question(row: object, why: str) -> None:
    with pytest.raises(RowRejected) as caught:
        list(hc3.parse(row, 0))
    assert caught.value.reason == why


@pytest.mark.parametrize(
    ("human", "chatgpt", "expected"),
    [
        (["a", ""], ["b"], {"human0": None, "human1": "empty answer", "chatgpt0": None}),
        (["a", None], [], {"human0": None, "human1": "missing field: human_answers"}),
        ([5, "a"], [], {"human0": "not a text: human_answers", "human1": None}),
        (["a"], None, {"human0": None, "chatgpt": "missing field: chatgpt_answers"}),
        ("a", ["b"], {"human": "not a list: human_answers", "chatgpt0": None}),
        ({"0": "a"}, ["b"], {"human": "not a list: human_answers", "chatgpt0": None}),
        ([], ["b"], {"chatgpt0": None}),
        ([], [], {"": "no answers"}),
        ([], None, {"chatgpt": "missing field: chatgpt_answers"}),
        ([["a"]], [{}], {"human0": "not a text: human_answers", "chatgpt0": "not a text: chatgpt_answers"}),
    ],
)  # fmt: skip
def test_hc3_rejects_an_answer_and_keeps_the_others(human: object, chatgpt: object, expected: dict[str, Any]) -> None:
    found = list(hc3.parse({"question": "Why?", "human_answers": human, "chatgpt_answers": chatgpt}, 0))
    assert {item.side: item.reason or None for item in found} == expected
    assert all((item.dialogue is None) == bool(item.reason) for item in found)


def test_hc3_counts_a_side_that_is_missing() -> None:
    assert [item.reason for item in hc3.parse({"question": "Why?"}, 0)] == [
        "missing field: human_answers",
        "missing field: chatgpt_answers",
    ]


# Any messages


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.sampled_from(["", "a", "b"]))))
def test_alternate_always_alternates(messages: list[tuple[Role, str]]) -> None:
    try:
        dialogue, repairs = alternate(messages)
    except RowRejected:
        said = "".join(role[0] for role, text in messages if text)
        assert "ua" not in said
        return
    assert [turn.role for turn in dialogue] == ["user", "assistant"] * (len(dialogue) // 2)
    assert len(dialogue) >= 2
    assert all(turn.text for turn in dialogue)
    assert bool(repairs) == ([turn.text for turn in dialogue] != [text for _, text in messages])
    assert len(set(repairs)) == len(repairs)


def test_hc3_takes_no_error_message_for_an_answer() -> None:
    message = "!\\nToo many requests in 1 hour. Try again later."
    row = {"question": "Why?", "human_answers": [message], "chatgpt_answers": [message, "!= means not equal."]}
    assert [(found.side, found.reason) for found in hc3.parse(row, 0)] == [
        ("human0", ""),
        ("chatgpt0", "an error message of the chat page"),
        ("chatgpt1", ""),
    ]
