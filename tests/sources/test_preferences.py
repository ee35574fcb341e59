from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.records import Turn
from koala_ray.samples import layouts
from koala_ray.sources import hh, summarize, webgpt
from koala_ray.sources.base import Found, RowRejected, Source
from koala_ray.sources.phrases import ANSWER_FROM_QUOTES, SUMMARIZE, choose

SOURCES = {"hh": hh.SOURCE, "webgpt": webgpt.SOURCE, "summarize": summarize.SOURCE}
EQUAL = "the sides do not differ"
HALF = "\ud800"


def parsed(source: str, row: object, seed: int = 0) -> list[Found]:
    """What a row gives, after a look at what must hold for each of its dialogues."""
    founds = list(SOURCES[source].parse(row, seed))
    for found in founds:
        check(found)
    return founds


def parsed_or_rejected(source: str, row: object) -> list[Found] | str:
    """What a row gives, or the reason why it gives nothing."""
    try:
        return parsed(source, row)
    except RowRejected as rejected:
        return rejected.reason


def check(found: Found) -> None:
    if found.dialogue is None:
        assert found.reason
        return
    assert not found.reason
    assert [turn.role for turn in found.dialogue] == ["user", "assistant"] * (len(found.dialogue) // 2)
    assert all(turn.text == turn.text.strip() != "" for turn in found.dialogue)
    marker = {"chosen": "positive", "rejected": "negative"}[found.side]
    (learnt,) = [turn for turn in found.dialogue if turn.learn]
    assert (learnt.role, learnt.marker) == ("assistant", marker)
    assert all(turn.marker == "none" for turn in found.dialogue if not turn.learn)
    assert len(set(found.repairs)) == len(found.repairs)


def reasons(source: str, row: object) -> list[str]:
    """The reasons for the two sides, the better one first; empty for one that is kept."""
    founds = parsed(source, row)
    assert [found.side for found in founds] == ["chosen", "rejected"]
    return [found.reason for found in founds]


def whole_row(source: str, row: object) -> str:
    with pytest.raises(RowRejected) as caught:
        parsed(source, row)
    return caught.value.reason


def short(found: Found) -> str:
    """A dialogue in one line: roles' letters and texts, the learnt turn in capitals."""
    assert found.dialogue is not None, found.reason
    parts = (turn.text.upper() if turn.learn else turn.text for turn in found.dialogue)
    return " / ".join(parts)


# Anthropic HH


def talk(*texts: str) -> str:
    """A transcript of turns in turn, the user first."""
    return "".join(f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(texts))


@pytest.mark.parametrize(
    ("chosen", "rejected", "better", "worse"),
    [
        (talk("q", "a"), talk("q", "b"), "q / A", "q / B"),
        (talk("q", "x", "r", "a"), talk("q", "x", "r", "b"), "q / x / r / A", "q / x / r / B"),
        # what comes after the parting stays, and isn't learnt
        (talk("q", "a", "r", "x"), talk("q", "b", "s", "y"), "q / A / r / x", "q / B / s / y"),
        (talk("q", "a", "r", "x"), talk("q", "b"), "q / A / r / x", "q / B"),
        # white space around a turn is no difference
        (talk("q ", " x", "r", "a"), talk("q", "x\n", " r", "b"), "q / x / r / A", "q / x / r / B"),
        # the first tag may stand at the start
        ("Human: q\n\nAssistant: a", "\nHuman: q\n\nAssistant: b", "q / A", "q / B"),
        ("  \n\n\n Human:q\n\n\nAssistant:a", talk("q", "b"), "q / A", "q / B"),
        # a tag within a paragraph is text
        (
            talk("q", "a\nHuman: no\n Assistant: no, \n\n Human: no \n\nhuman: no"),
            talk("q", "b"),
            "q / A\nHUMAN: NO\n ASSISTANT: NO, \n\n HUMAN: NO \n\nHUMAN: NO",
            "q / B",
        ),
        (talk("say 'Human: hi'", "a"), talk("say 'Human: hi'", "b"), "say 'Human: hi' / A", "say 'Human: hi' / B"),
    ],
)
def test_hh_learns_the_turn_where_the_sides_part(chosen: str, rejected: str, better: str, worse: str) -> None:
    founds = parsed("hh", {"chosen": chosen, "rejected": rejected})
    assert [short(found) for found in founds] == [better, worse]
    assert all(found.repairs == () for found in founds)


@pytest.mark.parametrize(
    ("text", "expected", "repairs"),
    [
        ("\n\nHuman: q\n\nAssistant: a\n\nAssistant: c", "q / A\n\nC", ("turns of one role joined",)),
        ("\n\nHuman: q\n\nHuman: r\n\nAssistant: a", "q\n\nr / A", ("turns of one role joined",)),
        ("\n\nHuman: q\n\nAssistant: a\n\nHuman:", "q / A", ("empty turn dropped",)),
        ("\n\nHuman: q\n\nAssistant: a\n\nHuman: \n\nAssistant: ", "q / A", ("empty turn dropped",)),
        ("\n\nHuman: q\n\nAssistant:\n\nAssistant: a", "q / A", ("empty turn dropped",)),
        ("\n\nAssistant: hi\n\nHuman: q\n\nAssistant: a", "q / A", ("opening answer dropped",)),
        ("A talk\n\nHuman: q\n\nAssistant: a", "q / A", ("text before the first tag dropped",)),
    ],
)
def test_hh_mends_and_says_so(text: str, expected: str, repairs: tuple[str, ...]) -> None:
    asked = expected.split(" / ")[0]
    chosen, rejected = parsed("hh", {"chosen": text, "rejected": talk(asked, "other")})
    assert (short(chosen), chosen.repairs) == (expected, repairs)
    assert rejected.repairs == ()
    swapped = parsed("hh", {"chosen": talk(asked, "other"), "rejected": text})
    assert short(swapped[1]) == expected


UNREADABLE = "the other side can't be read"


@pytest.mark.parametrize(
    ("chosen", "rejected", "why"),
    [
        (talk("q", "a"), talk("q", "a"), [EQUAL, EQUAL]),
        (talk("q", "a"), talk("q ", " a\n"), [EQUAL, EQUAL]),
        # an empty last answer costs its side alone, wherever they part
        (talk("q", ""), talk("q", "b"), ["empty answer", ""]),
        (talk("q", "a"), talk("q", " \n"), ["", "empty answer"]),
        (talk("q", "x", "r", ""), talk("q", "x", "r", "b"), ["empty answer", ""]),
        (talk("q", "x", "r"), talk("q", "x", "r", "b"), ["empty answer", ""]),
        (talk("q", "a", "r", ""), talk("q", "b", "r", "y"), ["empty answer", ""]),
        (talk("q", ""), talk("q", ""), ["empty answer"] * 2),
        (talk("q"), talk("q", "", "r"), ["empty answer"] * 2),
        # answers to different questions
        (talk("q", "a"), talk("r", "b"), ["the sides part at a user's turn"] * 2),
        (talk("q", "x", "r", "a"), talk("q", "x", "s", "a"), ["the sides part at a user's turn"] * 2),
        (talk("q", "x", "r", ""), talk("q", "x", "s", "a"), ["empty answer", "the sides part at a user's turn"]),
        # one side goes on
        (talk("q", "a"), talk("q", "a", "r", "b"), ["one side is the beginning of the other"] * 2),
        (talk("q", "a", "r", "b"), talk("q", "a"), ["one side is the beginning of the other"] * 2),
        # one side only
        (talk("q", "a"), None, [UNREADABLE, "missing field: rejected"]),
        (5, talk("q", "b"), ["not a text: chosen", UNREADABLE]),
        ({"role": "user"}, [], ["not a text: chosen", "no exchange of a user and an assistant"]),
        ("", talk("q", "b"), ["no role tags", UNREADABLE]),
        ("Human said: hi", talk("q", "b"), ["no role tags", UNREADABLE]),
        (talk("", ""), talk("q", "b"), ["no exchange of a user and an assistant", UNREADABLE]),
        ("\n\nAssistant: a", talk("q", "b"), ["no exchange of a user and an assistant", UNREADABLE]),
        (True, None, ["not a text: chosen", "missing field: rejected"]),
    ],
)
def test_hh_rejects_a_side_with_its_reason(chosen: object, rejected: object, why: list[str]) -> None:
    assert reasons("hh", {"chosen": chosen, "rejected": rejected}) == why


def test_hh_learns_the_answer_that_the_other_side_lacks() -> None:
    _, rejected = parsed("hh", {"chosen": talk("q", "x", "r", ""), "rejected": talk("q", "x", "r", "b")})
    assert short(rejected) == "q / x / r / B"


@pytest.mark.parametrize("row", [None, 5, "text", [], [{"chosen": "a"}], {}, {"other": 1}])
def test_hh_rejects_what_is_no_pair(row: object) -> None:
    assert whole_row("hh", row) == ("missing field: chosen" if isinstance(row, dict) else "not a JSON object")


def test_hh_rejects_both_sides_where_a_field_is_missing() -> None:
    assert reasons("hh", {"rejected": talk("q", "b")}) == ["missing field: chosen", UNREADABLE]


def listed(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


def test_hh_takes_lists_of_messages() -> None:
    chosen = listed(("system", "be kind"), ("user", "q"), ("assistant", "x "), ("human", "r"), ("assistant", "a"))
    rejected = listed(("user", "q"), ("assistant", "x"), ("user", "r"), ("assistant", None), ("assistant", "b"))
    better, worse = parsed("hh", {"chosen": chosen, "rejected": rejected})
    assert (short(better), short(worse)) == ("q / x / r / A", "q / x / r / B")
    assert worse.repairs == ("empty turn dropped",)
    mixed = parsed("hh", {"chosen": talk("q", "x", "r", "a"), "rejected": rejected})
    assert [short(found) for found in mixed] == [short(better), short(worse)]


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (listed(("user", "q"), ("assistant", None)), "empty answer"),
        (listed(("user", "q"), ("alien", "a")), "unknown role: alien"),
        (listed(("user", "q"), ("assistant", 5)), "not a text: content"),
        ([{"content": "q"}], "missing field: role"),
        ([{"role": ["user"], "content": "q"}], "not a text: role"),
        (["q"], "not a JSON object"),
        ([None], "not a JSON object"),
        ([], "no exchange of a user and an assistant"),
    ],
)
def test_hh_rejects_lists_of_messages(messages: list[Any], why: str) -> None:
    row = {"chosen": messages, "rejected": listed(("user", "q"), ("assistant", "b"))}
    assert reasons("hh", row)[0] == why


def test_hh_knows_red_team_rows() -> None:
    red_team = {
        "transcript": talk("q", "a"),
        "min_harmlessness_score_transcript": -1.5,
        "num_params": "52B",
        "task_description": "x",
        "rating": 4.0,
    }
    assert hh.SOURCE.refused(red_team) == "red-team transcripts, which hold no preference"
    pair = {"chosen": talk("q", "a"), "rejected": talk("q", "b")}
    for value in (pair, {**pair, "transcript": "x"}, {}, [], None, "transcript"):
        assert hh.SOURCE.refused(value) is None


def by_paragraphs(text: str) -> list[tuple[str, str]]:
    """The turns by a plain rule: a paragraph that begins with a role's tag opens a turn, any other goes on."""
    turns: list[tuple[str, str]] = []
    for paragraph in text.split("\n\n"):
        name, colon, rest = paragraph.lstrip("\n").partition(":")
        if colon and name in ("Human", "Assistant"):
            turns.append(({"Human": "user", "Assistant": "assistant"}[name], rest))
        elif turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n\n{paragraph}")
        else:
            assert not paragraph.strip()
    return [(role, said.strip()) for role, said in turns]


def said_by_role(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Turns with those of one role joined and empty ones left out."""
    filled = [turn for turn in turns if turn[1]]
    return [(role, "\n\n".join(text for _, text in some)) for role, some in groupby(filled, key=lambda turn: turn[0])]


def test_real_hh_texts_give_the_turns_of_their_tags(real_data: Path) -> None:
    outcome: Counter[str] = Counter()
    parting: Counter[int] = Counter()
    with gzip.open(real_data / "sources" / "hh_harmless.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            for found in parsed("hh", row):
                expected = by_paragraphs(row[found.side])
                assert hh.tagged_messages(row[found.side]) == (expected, ())
                outcome[found.reason] += 1
                if found.reason:
                    assert expected[-1] == ("assistant", "")
                    continue
                assert found.dialogue is not None
                assert [(turn.role, turn.text) for turn in found.dialogue] == said_by_role(expected)
                parting[len(found.dialogue) - [turn.learn for turn in found.dialogue].index(True)] += 1
    assert outcome == {"": 2996, "empty answer": 4}
    assert parting == {1: 2996}, "the sides part at their last answers"


# OpenAI WebGPT


def flat(**changes: Any) -> dict[str, Any]:
    row = {
        "question": {"dataset": "eli5", "id": "x", "full_text": " Why? "},
        "answer_0": " Because [1]. ",
        "quotes_0": {"title": ["T0"], "extract": ["E0"]},
        "tokens_0": {"prefix": [], "completion": []},
        "score_0": 0.5,
        "answer_1": "So [2].",
        "quotes_1": {"title": ["T1", "T2"], "extract": ["E1", "E2"]},
        "tokens_1": {"prefix": [], "completion": []},
        "score_1": -0.5,
    }
    return {**row, **changes}


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


# OpenAI summarization comparisons


def compared(**changes: Any) -> dict[str, Any]:
    row = {
        "info": {"id": "t3_x", "post": " The post. ", "title": " The title ", "subreddit": "x"},
        "summaries": [
            {"text": " one", "policy": "ref", "note": None},
            {"text": " two", "policy": "sup4", "note": "n"},
        ],
        "choice": 1,
        "split": "train",
    }
    return {**row, **changes}


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


# Task phrases


@pytest.mark.parametrize(
    ("phrases", "fields"), [(SUMMARIZE, ["{post}"]), (ANSWER_FROM_QUOTES, ["{question}", "{quotes}"])]
)
def test_each_task_phrase_holds_each_text_once(phrases: tuple[str, ...], fields: list[str]) -> None:
    assert len(set(phrases)) == len(phrases) >= 12
    for phrase in phrases:
        assert [phrase.count(field) for field in fields] == [1] * len(fields)
        assert phrase.count("{") == len(fields)


def test_a_task_phrase_depends_on_the_seed_and_the_text_alone() -> None:
    chosen = [SUMMARIZE.index(choose(SUMMARIZE, seed, text)) for seed in (0, 1) for text in ("a", "b", "é")]
    assert chosen == [10, 1, 9, 12, 8, 9], "another choice would change every prepared data set"
    seen = Counter(choose(SUMMARIZE, 0, f"text {number}") for number in range(1300))
    assert set(seen) == set(SUMMARIZE)
    assert min(seen.values()) > 60
    choose(SUMMARIZE, 0, HALF)


def test_sides_of_a_comparison_are_asked_alike_under_any_seed() -> None:
    prompts = set()
    for seed in range(20):
        better, worse = parsed("summarize", compared(), seed)
        assert better.dialogue
        assert worse.dialogue
        assert better.dialogue[0] == worse.dialogue[0]
        prompts.add(better.dialogue[0].text)
        sides = parsed("webgpt", flat(quotes_1=flat()["quotes_0"]), seed)
        assert len({(side.dialogue or ())[0].text for side in sides}) == 1
    assert len(prompts) > 5


# All three


def sample(source: str) -> Iterator[Any]:
    data = getattr(layouts, source)()
    return map(json.loads, (gzip.decompress(data) if source == "hh" else data).splitlines())


@pytest.mark.parametrize("source", SOURCES)
def test_the_sample_corpus_is_read(source: str) -> None:
    rows = list(sample(source))
    assert len(rows) > 10
    ties = 0
    for row in rows:
        tie = row.get("score_0") == 0
        ties += tie
        assert reasons(source, row) == ["tie" if tie else ""] * 2
        assert not any(found.repairs for found in parsed(source, row))
    assert bool(ties) == (source == "webgpt")


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_source_says_what_it_is(source: Source) -> None:
    assert all((source.title, source.licence, source.citation, source.home, source.published))
    assert source.many_answers
    assert source.published_rows
    names = [file.name for file in source.files]
    assert len(set(names)) == len(names) == len({file.url for file in source.files}) > 0
    assert all(name.startswith(f"{source.name}/") for name in names)
    assert all(file.url.startswith("https://") for file in source.files)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.sampled_from(["", " ", "a", "b\n", "\0", HALF]) | JSON
PIECES = ["\n\nHuman:", "\n\nAssistant:", "Human:", "\n", " ", "a", "b", "\0", HALF]
TALK = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
ROLE = st.sampled_from(["user", "assistant", "system", "human"])
MESSAGE = st.fixed_dictionaries({}, optional={"role": ROLE | JSON, "content": TEXT})
SIDE = TALK | st.lists(MESSAGE | JSON, max_size=4) | JSON
QUESTION = st.fixed_dictionaries({}, optional={"full_text": TEXT}) | TEXT
COLUMN = st.lists(TEXT, max_size=2) | JSON
QUOTE = st.fixed_dictionaries({}, optional={"title": TEXT, "extract": TEXT})
QUOTES = st.fixed_dictionaries({}, optional={"title": COLUMN, "extract": COLUMN}) | st.lists(QUOTE, max_size=2) | JSON
SCORE = st.sampled_from([-1, 0, 0.5, 10**400, math.inf, math.nan]) | JSON
ANSWER = {"answer": TEXT, "quotes": QUOTES, "score": SCORE}
SUMMARY = st.fixed_dictionaries({}, optional={"text": TEXT}) | JSON
INFO = st.fixed_dictionaries({}, optional={"post": TEXT, "article": TEXT, "title": TEXT})
NEARLY: dict[str, st.SearchStrategy[Any]] = {
    "hh": st.fixed_dictionaries({}, optional={"chosen": SIDE, "rejected": SIDE, "transcript": JSON}),
    "webgpt": st.fixed_dictionaries(
        {}, optional={"question": QUESTION, **{f"{name}_{at}": of for name, of in ANSWER.items() for at in (0, 1)}}
    )
    | st.lists(st.fixed_dictionaries({}, optional={"question": QUESTION, **ANSWER}) | JSON, min_size=1, max_size=3),
    "summarize": st.fixed_dictionaries(
        {},
        optional={
            "info": INFO | JSON,
            "summaries": st.lists(SUMMARY, min_size=2, max_size=2) | JSON,
            "choice": st.sampled_from([0, 1]) | JSON,
            "summary": JSON,
        },
    ),
}


@pytest.mark.parametrize("source", SOURCES)
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_row_is_kept_or_rejected_side_by_side(source: str, data: st.DataObject) -> None:
    row = data.draw(NEARLY[source] | JSON)
    SOURCES[source].refused(row)
    founds = parsed_or_rejected(source, row)
    assert isinstance(founds, str) or [found.side for found in founds] == ["chosen", "rejected"]
    assert founds
    assert founds == parsed_or_rejected(source, row)


WORDS = st.text(min_size=1).filter(lambda text: text.strip() and "\n\n" not in text and "\0" not in text)
TURNS = st.lists(WORDS, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2 == 1)
ANSWERS = st.tuples(WORDS, WORDS).filter(lambda texts: texts[0].strip() != texts[1].strip())
WELL_FORMED: dict[str, st.SearchStrategy[Any]] = {
    "hh": st.builds(
        lambda turns, answers: {"chosen": talk(*turns, answers[0]), "rejected": talk(*turns, answers[1])},
        TURNS,
        ANSWERS,
    ),
    "webgpt": st.builds(
        lambda question, answers, score: flat(
            question=question, answer_0=answers[1], answer_1=answers[0], score_0=-score, score_1=score
        ),
        WORDS,
        ANSWERS,
        st.floats(min_value=0.01, max_value=1),
    ),
    "summarize": st.builds(
        lambda post, answers: compared(
            info={"post": post}, summaries=[{"text": answers[1]}, {"text": answers[0]}], choice=1
        ),
        WORDS,
        ANSWERS,
    ),
}


@pytest.mark.parametrize("source", SOURCES)
@settings(deadline=None, max_examples=100)
@given(data=st.data(), seed=st.integers(0, 3))
def test_a_well_formed_comparison_gives_two_dialogues(source: str, data: st.DataObject, seed: int) -> None:
    row = data.draw(WELL_FORMED[source])
    better, worse = parsed(source, row, seed)
    assert better.dialogue
    assert worse.dialogue
    assert better.dialogue[-1].learn
    assert worse.dialogue[-1].learn
    assert better.dialogue[:-1] == worse.dialogue[:-1] or source == "webgpt"
    assert better.dialogue[-1].text != worse.dialogue[-1].text


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
