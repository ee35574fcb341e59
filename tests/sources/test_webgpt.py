"""OpenAI WebGPT's comparisons in both of their layouts, and the quotations that each answer cites."""

from __future__ import annotations

import math
from typing import Any

import pytest
from comparisons import EQUAL, flat, parsed, reasons, whole_row

from koala_ray.records import Turn
from koala_ray.sources.phrases import ANSWER_FROM_QUOTES, choose


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def pair(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A flat row in the original layout."""
    names = ("answer", "quotes", "tokens", "score")
    return [
        {"question": row["question"], **{name: row[f"{name}_{place}"] for name in names if f"{name}_{place}" in row}}
        for place in (0, 1)
    ]


def test_webgpt_asks_each_side_with_its_own_quotations() -> None:
    phrase = choose(ANSWER_FROM_QUOTES, 0, "Why?")
    asked = (
        phrase.format(question="Why?", quotes="[1] T0\nE0"),
        phrase.format(question="Why?", quotes="[1] T1\nE1\n\n[2] T2\nE2"),
    )
    better, worse = parsed("webgpt", flat())
    assert better.dialogue == (Turn("user", asked[0]), Turn("assistant", "Because [1].", "positive", learn=True))
    assert worse.dialogue == (Turn("user", asked[1]), Turn("assistant", "So [2].", "negative", learn=True))
    assert (better.side, worse.side) == ("chosen", "rejected")


def test_webgpt_takes_the_better_score_for_the_better_answer() -> None:
    better, worse = parsed("webgpt", flat(score_0=-1, score_1=1))
    assert (better.dialogue or ())[-1].text == "So [2]."
    assert (worse.dialogue or ())[-1].text == "Because [1]."


@pytest.mark.parametrize(
    ("quotes", "rendered"),
    [
        (None, ""),
        ({"title": [], "extract": []}, ""),
        ([], ""),
        ({"title": [" "], "extract": [""]}, ""),
        ({"title": ["T"], "extract": [" E\n"]}, "[1] T\nE"),
        ([{"title": "T", "extract": "E"}], "[1] T\nE"),
        ({"title": ["T", "", "", "U"], "extract": ["", "E", "", "F"]}, "[1] T\n\n[2]\nE\n\n[4] U\nF"),
        ({"title": ["{question}"], "extract": ["{x} %s"]}, "[1] {question}\n{x} %s"),
    ],
)
def test_webgpt_numbers_the_quotations_as_the_answers_cite_them(quotes: object, rendered: str) -> None:
    better, worse = parsed("webgpt", flat(quotes_0=quotes))
    phrase = choose(ANSWER_FROM_QUOTES, 0, "Why?")
    assert better.dialogue
    assert better.dialogue[0].text == (phrase.format(question="Why?", quotes=rendered) if rendered else "Why?")
    assert worse.dialogue


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"score_0": 0, "score_1": 0.0}, ["tie"] * 2),
        ({"score_0": 0.5, "score_1": 0.5}, ["tie"] * 2),
        ({"score_0": None}, ["missing field: score_0"] * 2),
        ({"score_1": "1"}, ["not a number: score_1"] * 2),
        ({"score_1": True}, ["not a number: score_1"] * 2),
        ({"score_1": math.nan}, ["not a number: score_1"] * 2),
        ({"question": None}, ["missing field: question"] * 2),
        ({"question": 5}, ["not a text: question"] * 2),
        ({"question": " "}, ["empty question"] * 2),
        ({"question": ["Why?"]}, ["not a text: question"] * 2),
        ({"question": {}}, ["missing field: question.full_text"] * 2),
        ({"question": {"full_text": None}}, ["missing field: question.full_text"] * 2),
        ({"question": {"full_text": ["Why?"]}}, ["not a text: question.full_text"] * 2),
        ({"question": {"full_text": ""}}, ["empty question"] * 2),
        ({"answer_0": ""}, ["empty answer", ""]),
        ({"answer_0": None}, ["missing field: answer_0", ""]),
        ({"answer_1": 5}, ["", "not a text: answer_1"]),
        ({"quotes_0": 5}, ["not a JSON object", ""]),
        ({"quotes_0": [None]}, ["not a JSON object", ""]),
        ({"quotes_0": {}}, ["missing field: quotes_0.title", ""]),
        ({"quotes_0": {"title": ["T"]}}, ["missing field: quotes_0.extract", ""]),
        ({"quotes_0": {"title": "T", "extract": ["E"]}}, ["not a list: quotes_0.title", ""]),
        ({"quotes_0": {"title": ["T"], "extract": []}}, ["titles and extracts differ in number: quotes_0", ""]),
        ({"quotes_1": {"title": [None], "extract": ["E"]}}, ["", "missing field: quotes_1.title"]),
        ({"quotes_1": {"title": ["T"], "extract": [5]}}, ["", "not a text: quotes_1.extract"]),
        ({"answer_1": "Because [1]. ", "quotes_1": {"title": ["T0"], "extract": [" E0"]}}, [EQUAL] * 2),
        ({"answer_1": "Because [1]. "}, ["", ""]),  # the same answer, better or worse supported
    ],
)
def test_webgpt_rejects_with_a_reason_in_both_layouts(changes: dict[str, Any], why: list[str]) -> None:
    assert reasons("webgpt", flat(**changes)) == why
    assert reasons("webgpt", pair(flat(**changes))) == why


def test_webgpt_reads_both_layouts_alike() -> None:
    assert parsed("webgpt", pair(flat())) == parsed("webgpt", flat())
    assert parsed("webgpt", flat(question="Why?")) == parsed("webgpt", flat())
    assert parsed("webgpt", pair(flat(question="Why?"))) == parsed("webgpt", flat())
    without_quotes = without(flat(), "quotes_0", "quotes_1", "tokens_0", "tokens_1")
    better, worse = parsed("webgpt", without_quotes)
    assert better.dialogue
    assert worse.dialogue
    assert better.dialogue[0] == worse.dialogue[0] == Turn("user", "Why?")
    assert parsed("webgpt", pair(without_quotes)) == [better, worse]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (None, "not a JSON object"),
        ("text", "not a JSON object"),
        ({}, "missing field: answer_0"),
        ({"question": "Why?", "score_0": 1}, "missing field: answer_0"),
        ([], "not two answers"),
        ([{}], "not two answers"),
        (pair(flat()) * 2, "not two answers"),
    ],
)
def test_webgpt_rejects_what_is_no_comparison(row: object, why: str) -> None:
    assert whole_row("webgpt", row) == why


def test_webgpt_rejects_both_answers_of_a_pair_that_is_none() -> None:
    first, second = pair(flat())
    assert reasons("webgpt", [first, {**second, "question": "What?"}]) == ["the answers are to different questions"] * 2
    assert reasons("webgpt", [first, None]) == ["not a JSON object"] * 2
    assert reasons("webgpt", [first, without(second, "answer")]) == ["", "missing field: answer_1"]
    assert reasons("webgpt", without(flat(), "answer_1")) == ["", "missing field: answer_1"]
