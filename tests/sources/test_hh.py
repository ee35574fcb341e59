"""Anthropic HH's rows: where the sides part, what is mended, what is rejected."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from comparisons import EQUAL, parsed, reasons, talk, whole_row

from koala_ray.sources import hh
from koala_ray.sources.base import Found


def short(found: Found) -> str:
    """A dialogue in one line: roles' letters and texts, the learnt turn in capitals."""
    assert found.dialogue is not None, found.reason
    parts = (turn.text.upper() if turn.learn else turn.text for turn in found.dialogue)
    return " / ".join(parts)


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
