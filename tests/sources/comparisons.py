"""Rows of two answers in each source's layout, and what must hold for all that is read from them."""

from __future__ import annotations

from typing import Any

import pytest

from koala_ray.sources import hh, summarize, webgpt
from koala_ray.sources.base import Found, RowRejected

SOURCES = {"hh": hh.SOURCE, "webgpt": webgpt.SOURCE, "summarize": summarize.SOURCE}
EQUAL = "the sides do not differ"
HALF = "\ud800"
"""Half of a surrogate pair, which JSON can spell and UTF-8 can't hold."""


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
    """A side is rejected with a reason, or a dialogue whose one learnt turn is marked as the better or worse."""
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
    """The reason why a row as a whole is rejected."""
    with pytest.raises(RowRejected) as caught:
        parsed(source, row)
    return caught.value.reason


# The layouts


def talk(*texts: str) -> str:
    """A side of an HH row: a transcript of turns in turn, the user first."""
    return "".join(f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(texts))


def flat(**changes: Any) -> dict[str, Any]:
    """A WebGPT row with its two answers side by side."""
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


def compared(**changes: Any) -> dict[str, Any]:
    """A comparison of two summaries."""
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
