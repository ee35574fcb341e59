"""OpenAI's comparisons of summaries: the choice, the text that is summarized, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comparisons import EQUAL, SOURCES, compared, parsed, reasons, whole_row

from koala_ray.records import Turn
from koala_ray.sources import summarize
from koala_ray.sources.phrases import SUMMARIZE, choose


@pytest.mark.parametrize(("choice", "order"), [(0, ["one", "two"]), (1, ["two", "one"])])
def test_summarize_takes_the_choice_for_the_better_summary(choice: int, order: list[str]) -> None:
    post = "The title\n\nThe post."
    asked = choose(SUMMARIZE, 0, post).format(post=post)
    better, worse = parsed("summarize", compared(choice=choice))
    assert better.dialogue == (Turn("user", asked), Turn("assistant", order[0], "positive", learn=True))
    assert worse.dialogue == (Turn("user", asked), Turn("assistant", order[1], "negative", learn=True))


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({"post": "P"}, "P"),
        ({"post": "P", "title": None}, "P"),
        ({"post": "P", "title": " "}, "P"),
        ({"post": "P", "title": "T", "article": None}, "T\n\nP"),
        ({"post": "P", "article": "A"}, "P"),
        ({"post": None, "article": "A", "title": "T", "site": "cnn"}, "T\n\nA"),
        ({"post": "", "article": "A"}, "A"),
        ({"article": "A"}, "A"),
        ({"post": "{post} {x} %s"}, "{post} {x} %s"),
    ],
)
def test_summarize_asks_with_the_title_and_the_post_or_article(info: dict[str, Any], text: str) -> None:
    better, _ = parsed("summarize", compared(info=info))
    assert better.dialogue
    assert better.dialogue[0].text == choose(SUMMARIZE, 0, text).format(post=text)


NO_CHOICE = "choice is neither 0 nor 1"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        *[({"choice": choice}, [NO_CHOICE] * 2) for choice in (True, False, 2, -1, "1", 1.0, 0.5, [], {}, 10**400)],
        ({"choice": None}, ["missing field: choice"] * 2),
        ({"info": None}, ["missing field: info"] * 2),
        ({"info": "post"}, ["not a JSON object: info"] * 2),
        ({"info": {}}, ["missing field: info.post"] * 2),
        ({"info": {"post": None, "article": None}}, ["missing field: info.post"] * 2),
        ({"info": {"post": ["P"]}}, ["not a text: info.post"] * 2),
        ({"info": {"post": " "}}, ["empty post"] * 2),
        ({"info": {"article": 5}}, ["not a text: info.article"] * 2),
        ({"info": {"post": "P", "title": 5}}, ["not a text: info.title"] * 2),
        ({"summaries": [{"text": "one"}, {"text": ""}]}, ["empty answer", ""]),
        ({"summaries": [{"text": None}, {"text": "two"}]}, ["", "missing field: summaries.0.text"]),
        ({"summaries": [{"text": 5}, {"text": "two"}]}, ["", "not a text: summaries.0.text"]),
        ({"summaries": ["one", {"text": "two"}]}, ["", "not a JSON object: summaries.0"]),
        ({"summaries": [None, {}]}, ["missing field: summaries.1.text", "not a JSON object: summaries.0"]),
        ({"summaries": [{"text": "same"}, {"text": " same "}]}, [EQUAL] * 2),
    ],
)
def test_summarize_rejects_with_a_reason(changes: dict[str, Any], why: list[str]) -> None:
    assert reasons("summarize", compared(**changes)) == why


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([compared()], "not a JSON object"),
        ({}, "missing field: summaries"),
        (compared(summaries=None), "missing field: summaries"),
        (compared(summaries={"0": 1}), "not a list: summaries"),
        (compared(summaries=[{"text": "one"}]), "not two summaries"),
        (compared(summaries=[{"text": "one"}] * 3), "not two summaries"),
    ],
)
def test_summarize_rejects_what_is_no_comparison(row: object, why: str) -> None:
    assert whole_row("summarize", row) == why


def test_summarize_knows_axis_evaluations() -> None:
    axis = {"info": {"article": "A"}, "summary": {"text": "s", "axes": {"overall": 3}}, "split": "test"}
    assert summarize.SOURCE.refused(axis) == "axis evaluations of single summaries, not comparisons"
    for value in (compared(), {"summary": "axes"}, {"summary": {"text": "s"}}, [], None, "summary"):
        assert summarize.SOURCE.refused(value) is None


@pytest.mark.parametrize(("split", "reason"), [("train", ""), (None, "x"), ("valid1", "x"), (5, "x")])
def test_summaries_outside_the_training_split_are_left_out(split: object, reason: str) -> None:
    row = {
        "info": {"post": "A long story."},
        "summaries": [{"text": "Short."}, {"text": "Shorter."}],
        "choice": 0,
        "split": split,
    }
    reasons = [found.reason for found in SOURCES["summarize"].parse(row, 0)]
    assert reasons == [reason and "not of the publishers' training split"] * 2


def test_real_comparisons_of_summaries_give_two_dialogues_each(real_data: Path) -> None:
    for line in (real_data / "sources" / "summarize_comparisons.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        better, worse = parsed("summarize", row)
        assert better.dialogue
        assert worse.dialogue
        assert better.dialogue[-1].text == row["summaries"][row["choice"]]["text"].strip()
        assert row["info"]["post"].strip() in better.dialogue[0].text
        assert row["info"]["title"] in better.dialogue[0].text
        assert better.dialogue[0] == worse.dialogue[0]
