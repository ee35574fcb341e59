"""OIG's rows: their role tags, what is mended and what is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import JSON

from koala_ray.records import Turn
from koala_ray.samples import layouts
from koala_ray.sources.base import Found, RowRejected
from koala_ray.sources.oig import SOURCE

NOTHING = "no exchange of a user and an assistant"
TWO_REPAIRS = ("empty turn dropped", "turns of one role joined")


def parsed(row: object) -> Found:
    """The one dialogue of a row, after a look at what must hold for it."""
    (found,) = SOURCE.parse(row, 0)
    assert found.dialogue
    assert (found.side, found.reason) == ("", "")
    assert [turn.role for turn in found.dialogue] == ["user", "assistant"] * (len(found.dialogue) // 2)
    for turn in found.dialogue:
        assert turn.text == turn.text.strip() != ""
        assert (turn.marker, turn.learn) == (("positive", True) if turn.role == "assistant" else ("none", False))
    return found


def parsed_or_rejected(row: object) -> Found | str:
    """What a row gives, or the reason why it gives nothing."""
    try:
        return parsed(row)
    except RowRejected as rejected:
        return rejected.reason


def texts(found: Found) -> list[str]:
    assert found.dialogue
    return [turn.text for turn in found.dialogue]


@pytest.mark.parametrize(
    ("text", "expected", "repairs"),
    [
        ("<human>: Hi!\n<bot>: Hello.", ["Hi!", "Hello."], ()),
        ("<human>:Hi!\n<bot>:Hello.\n<human>: a\n<bot>: b\n", ["Hi!", "Hello.", "a", "b"], ()),
        (" \n\n<human>: Hi!\n\n<bot>: Hello.", ["Hi!", "Hello."], ()),
        ("<human>: Hi!\r\n<bot>: Hello.\r\n", ["Hi!", "Hello."], ()),
        ("<human>: a\nb\n\nc\n<bot>: d\n\ne", ["a\nb\n\nc", "d\n\ne"], ()),
        ("<human>: say <bot>: x\n<bot>: it is <human>: y", ["say <bot>: x", "it is <human>: y"], ()),
        ("<human>: a\n <bot>: b\n<Bot>: c\n<bot> d\n<bot>: e", ["a\n <bot>: b\n<Bot>: c\n<bot> d", "e"], ()),
        ("<human>: a\n<bot>: b\n<human>: ", ["a", "b"], ("empty turn dropped",)),
        ("<human>: a\n<bot>: b\n<human>: c", ["a", "b"], ("closing question dropped",)),
        (
            "<human>: a\n<bot>:\n<human>: c\n<bot>: d",
            ["a\n\nc", "d"],
            ("empty turn dropped", "turns of one role joined"),
        ),
        ("<human>: a\n<bot>: b\n<bot>: c", ["a", "b\n\nc"], ("turns of one role joined",)),
        ("<bot>: hi\n<human>: a\n<bot>: b", ["a", "b"], ("opening answer dropped",)),
        ("Scene 1\n<human>: a\n<bot>: b", ["a", "b"], ("text before the first tag dropped",)),
        ("x <human>: y\n<human>: a\n<bot>: b", ["a", "b"], ("text before the first tag dropped",)),
    ],
)
def test_oig_turns(text: str, expected: list[str], repairs: tuple[str, ...]) -> None:
    found = parsed({"text": text, "metadata": {"source": "x"}})
    assert (texts(found), found.repairs) == (expected, repairs)
    assert parsed({"text": text}) == found


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (None, "not a JSON object"),
        (["<human>: a\n<bot>: b"], "not a JSON object"),
        ({}, "missing field: text"),
        ({"text": None}, "missing field: text"),
        ({"text": 5}, "not a text: text"),
        ({"text": ["<human>: a\n<bot>: b"]}, "not a text: text"),
        ({"text": ""}, "no role tags"),
        ({"text": "Human: a\nBot: b"}, "no role tags"),
        ({"text": "say <human>: a <bot>: b"}, "no role tags"),
        ({"text": "<human>: a"}, NOTHING),
        ({"text": "<bot>: a"}, NOTHING),
        ({"text": "<human>: \n<bot>: a"}, NOTHING),
        ({"text": "<human>: a\n<bot>: "}, NOTHING),
    ],
)
def test_oig_rejects(row: object, why: str) -> None:
    with pytest.raises(RowRejected) as caught:
        list(SOURCE.parse(row, 0))
    assert caught.value.reason == why


@pytest.mark.parametrize(("name", "rows"), [("oig_unified_basic", 4), ("oig_grade_school_math", 800)])
def test_real_oig_rows_are_single_exchanges(real_data: Path, name: str, rows: int) -> None:
    lines = (real_data / "sources" / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    values = [json.loads(line) for line in lines if line]
    assert len(values) == rows
    for value in values:
        asked, answer = value["text"].removeprefix("<human>:").split("\n<bot>:")
        found = parsed(value)
        assert texts(found) == [asked.strip(), answer.strip()]
        assert found.repairs == ()


@pytest.mark.parametrize("name", ["grade_school_math", "poetry_to_songs", "plot_screenplay_books_dialogue"])
def test_the_sample_corpus_is_read(name: str) -> None:
    rows = [json.loads(line) for line in getattr(layouts, f"oig_{name}")().decode().split("\n") if line]
    assert rows
    for row in rows:
        found = parsed(row)
        assert (
            "".join(f"{tag}{text}" for tag, text in zip(("<human>: ", "\n<bot>: "), texts(found), strict=True))
            == (row["text"])
        )


def test_the_source_says_what_it_is() -> None:
    assert all((SOURCE.title, SOURCE.licence, SOURCE.citation, SOURCE.home, SOURCE.published, SOURCE.published_rows))
    names = [file.name for file in SOURCE.files]
    assert len(set(names)) == 3
    assert all(file.url == f"{SOURCE.home}/resolve/main/{file.name.removeprefix('oig/')}" for file in SOURCE.files)


PIECES = st.lists(st.sampled_from(["<human>:", "<bot>:", "\n", "\n<bot>:", " ", "a", "\ud800"]), max_size=9)


@settings(deadline=None, max_examples=300)
@given(st.fixed_dictionaries({}, optional={"text": PIECES.map("".join) | JSON, "metadata": JSON}) | JSON)
def test_any_row_is_kept_or_rejected(row: Any) -> None:
    found = parsed_or_rejected(row)
    assert found
    assert found == parsed_or_rejected(row)


WORDS = st.text(min_size=1).map(lambda text: text.replace("<", "(").strip()).filter(bool)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_what_was_written_is_read(exchanges: list[tuple[str, str]]) -> None:
    text = "\n".join(f"<human>: {asked}\n<bot>: {answer}" for asked, answer in exchanges)
    expected = [
        turn
        for asked, answer in exchanges
        for turn in (Turn("user", asked), Turn("assistant", answer, "positive", learn=True))
    ]
    assert parsed({"text": text}).dialogue == tuple(expected)
