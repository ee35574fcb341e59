"""ShareGPT's conversations: their spellings, what is wrong with them, and the parts of long ones."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.records import Example, Rejected
from koala_ray.sources import sharegpt
from koala_ray.sources.base import JOINED, Found, RowRejected
from koala_ray.sources.raw import RawRow, read_rows
from koala_ray.sources.registry import examples


def chat(*messages: tuple[str, object], id_: object = "abc_0") -> dict[str, object]:
    return {"id": id_, "conversations": [{"from": role, "value": text} for role, text in messages]}


def texts(found: Found) -> list[tuple[str, str]]:
    assert found.dialogue is not None, found.reason
    return [(turn.role, turn.text) for turn in found.dialogue]


# One row


@pytest.mark.parametrize(
    ("messages", "expected", "repairs"),
    [
        ([("human", " Hi "), ("gpt", "Hello!")], [("user", "Hi"), ("assistant", "Hello!")], ()),
        (
            [("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")],
            [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
            (),
        ),
        ([("user", "a"), ("chatgpt", "b")], [("user", "a"), ("assistant", "b")], ()),
        ([("user", "a"), ("bing", "b")], [("user", "a"), ("assistant", "b")], ()),
        ([("user", "a"), ("bard", "b")], [("user", "a"), ("assistant", "b")], ()),
        ([(" Human ", "a"), ("GPT\n", "b")], [("user", "a"), ("assistant", "b")], ()),
        (
            [("system", "Be kind."), ("human", "a"), ("assistant", "b")],
            [("user", "a"), ("assistant", "b")],
            ("system message dropped",),
        ),
        (
            [("system", {"no": "text"}), ("human", "a"), ("assistant", "b")],
            [("user", "a"), ("assistant", "b")],
            ("system message dropped",),
        ),
        (
            [("gpt", "lost"), ("human", "a"), ("gpt", "b")],
            [("user", "a"), ("assistant", "b")],
            ("opening answer dropped",),
        ),
        (
            [("gpt", "lost"), ("gpt", "too"), ("human", "a"), ("gpt", "b")],
            [("user", "a"), ("assistant", "b")],
            ("opening answer dropped",),
        ),
        (
            [("human", "a"), ("gpt", "b"), ("human", "unanswered")],
            [("user", "a"), ("assistant", "b")],
            ("closing question dropped",),
        ),
        (
            [("human", "a"), ("human", "b"), ("gpt", "c")],
            [("user", "a\n\nb"), ("assistant", "c")],
            ("turns of one role joined",),
        ),
        (
            [("human", "a"), ("gpt", "b"), ("gpt", "c")],
            [("user", "a"), ("assistant", "b\n\nc")],
            ("turns of one role joined",),
        ),
        ([("human", "a"), ("gpt", " "), ("gpt", "b")], [("user", "a"), ("assistant", "b")], ("empty turn dropped",)),
        (
            [("human", ""), ("human", "a"), ("gpt", None), ("gpt", "b")],
            [("user", "a"), ("assistant", "b")],
            ("empty turn dropped",),
        ),
        (
            [("human", "a"), ("gpt", ""), ("human", "b"), ("gpt", "c")],
            [("user", "a\n\nb"), ("assistant", "c")],
            (
                "empty turn dropped",
                "turns of one role joined",
            ),
        ),
        (
            [("human", "<div>USER: hi</s> GPT:</div>"), ("gpt", "<p>b</p>")],
            [("user", "<div>USER: hi</s> GPT:</div>"), ("assistant", "<p>b</p>")],
            (),
        ),
    ],
)
def test_messages_become_a_dialogue(
    messages: list[tuple[str, object]], expected: list[tuple[str, str]], repairs: tuple[str, ...]
) -> None:
    (found,) = sharegpt.parse(chat(*messages), 0)
    assert (found.side, texts(found), found.repairs) == ("", expected, repairs)
    assert found.dialogue is not None
    learnt = [(turn.learn, turn.marker) for turn in found.dialogue]
    assert learnt == [(False, "none"), (True, "positive")] * (len(learnt) // 2)


NOTHING = "no exchange of a user and an assistant"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (chat(), NOTHING),
        (chat(("human", "a")), NOTHING),
        (chat(("gpt", "a")), NOTHING),
        (chat(("gpt", "a"), ("gpt", "b")), NOTHING),
        (chat(("gpt", "a"), ("human", "b")), NOTHING),
        (chat(("system", "a"), ("gpt", "b")), NOTHING),
        (chat(("human", ""), ("gpt", "")), NOTHING),
        (chat(("human", None), ("gpt", "b")), NOTHING),
        (chat(("human", "a"), ("alien", "b")), "unknown role: alien"),
        (chat(("human", "a"), ("x" * 99, "b")), f"unknown role: {'x' * 40}"),
        (chat(("", "a"), ("gpt", "b")), "unknown role: "),
        (chat(("human", 5), ("gpt", "b")), "not a text: value"),
        (chat(("human", "a"), ("gpt", ["b"])), "not a text: value"),
        ({"conversations": [{"value": "a"}]}, "missing field: from"),
        ({"conversations": [{"from": None, "value": "a"}]}, "missing field: from"),
        ({"conversations": [{"from": 5, "value": "a"}]}, "not a text: from"),
        ({"conversations": [{"from": "human"}]}, NOTHING),
        ({"conversations": ["text"]}, "not a JSON object"),
        ({"conversations": [None]}, "not a JSON object"),
        ({"conversations": None}, "missing field: conversations"),
        ({"conversations": {}}, "not a list: conversations"),
        ({"conversations": "text"}, "not a list: conversations"),
        ({"id": "x"}, "missing field: conversations"),
        ({"items": 5}, "not a list: items"),
        (
            {"conversations": [{"from": "human", "value": "a"}, None, {"from": "gpt", "value": "b"}]},
            "not a JSON object",
        ),
        ({"conversations": [[{"from": "human", "value": "a"}]]}, "not a JSON object"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "not a text: content"),
        (chat(("human", "a"), ("gpt", "b"), ("human", "c"), ("GPT-5", "d")), "unknown role: gpt-5"),
        ("text", "not a JSON object"),
        (None, "not a JSON object"),
    ],
)
def test_what_can_not_be_a_dialogue_says_why(row: object, why: str) -> None:
    with pytest.raises(RowRejected) as caught:
        list(sharegpt.parse(row, 0))
    assert caught.value.reason == why


AB = [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize(
    "row",
    [
        {"items": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "avatarUrl": None},
        {"id": 7, "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"conversations": [{"user": "human", "text": "a"}, {"user": "chatgpt", "text": "b"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"conversations": None, "items": [{"role": "USER", "value": "a"}, {"from": "gpt", "content": "b"}]},
        {"conversations": [{"from": "human", "role": None, "value": "a"}, {"from": None, "role": "gpt", "value": "b"}]},
    ],
)
def test_spellings_of_the_layout(row: object) -> None:
    (found,) = sharegpt.parse(row, 0)
    assert (texts(found), found.repairs) == (AB, ())


# Parts of a conversation


@pytest.mark.parametrize(
    ("id_", "expected"),
    [
        ("abc_0", "abc"),
        ("abc_17", "abc"),
        ("a_b_3", "a_b"),
        ("abc", None),
        ("abc_", None),
        ("_0", None),
        ("abc_x", None),
        ("abc_-1", None),
        ("abc_\u0663", None),
        ("abc_" + "9" * 5000, None),
        ("", None),
        (5, None),
        (None, None),
        (["abc_0"], None),
    ],
)
def test_the_id_names_the_conversation(id_: object, expected: str | None) -> None:
    assert sharegpt.group(chat(id_=id_)) == expected


@pytest.mark.parametrize("value", [None, 5, "abc_0", [], ["abc_0"], {}, {"ID": "abc_0"}, [{"id": "abc_0"}]])
def test_what_has_no_id_belongs_to_no_conversation(value: object) -> None:
    assert sharegpt.group(value) is None


def read(path: Path, rows: list[Any], indent: int | None = None) -> list[Example | Rejected]:
    path.write_text(json.dumps(rows, indent=indent))
    items = list(read_rows(str(path), sharegpt.group))
    assert all(isinstance(item, RawRow) for item in items)
    return [found for item in items if isinstance(item, RawRow) for found in examples("sharegpt", "x.json", item, 0)]


def outcome(item: Example | Rejected) -> tuple[str, Any]:
    """Of an example the id, without what all share, and who says what; of a rejected row the filter and reason."""
    if isinstance(item, Rejected):
        return item.filter, item.reason
    return item.id.removeprefix("sharegpt/x.json"), "".join(f"{turn.role[0]}:{turn.text} " for turn in item.turns)


def test_parts_are_joined_in_order(tmp_path: Path) -> None:
    rows = [
        chat(("human", "1"), ("gpt", "2"), ("human", "3"), id_="a_0"),
        chat(("gpt", "4"), ("human", "5"), ("gpt", "6"), id_="a_3"),
        chat(("human", "7"), ("gpt", "8"), id_="a_17"),
        chat(("human", "9"), ("gpt", "10"), id_="b_0"),
        chat(("gpt", "11"), id_="b_1"),
    ]
    expected: list[tuple[str, Any]] = [
        ("#1", "u:1 a:2 u:3 a:4 u:5 a:6 u:7 a:8 "),
        ("layout", JOINED),
        ("layout", JOINED),
        ("#1.4", "u:9 a:10\n\n11 "),
        ("layout", JOINED),
    ]
    found = read(tmp_path / "x.json", rows)
    assert [outcome(item) for item in found] == expected
    assert [item.repairs for item in found if isinstance(item, Example)] == [
        ("parts joined",),
        ("parts joined", "turns of one role joined"),
    ]
    joined = [item for item in found if isinstance(item, Rejected)]
    assert [item.excerpt for item in joined] == [json.dumps(rows[place])[:200] for place in (1, 2, 4)]
    indented = read(tmp_path / "x.json", rows, 1)
    assert [item.line for item in indented] == [2, 2, 2, 49, 49]
    assert [outcome(item)[1] for item in indented] == [says for _, says in expected]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["a_0", "a_0"], ["#1", "#1/part2"]),
        (["a_0", "a_2", "a_0", "a_2"], ["#1", JOINED, "#1/part3", JOINED]),
        (["a_5", "a_3", "a_4"], ["#1", "#1/part2", JOINED]),
        (["a_0", "b_1", "a_2"], ["#1", "#1.2", "#1.3"]),
        (["a_9", "a_10"], ["#1", JOINED]),
        (["a", "a"], ["#1", "#1.2"]),
        ([None, None], ["#1", "#1.2"]),
    ],
)
def test_a_number_that_does_not_increase_begins_a_conversation(
    tmp_path: Path, ids: list[object], expected: list[str]
) -> None:
    found = read(tmp_path / "x.json", [chat(("human", "q"), ("gpt", "a"), id_=id_) for id_ in ids])
    assert [item.reason if isinstance(item, Rejected) else outcome(item)[0] for item in found] == expected
    for item in found:
        if isinstance(item, Example):
            assert item.pair == item.id.partition("/part")[0]


def test_one_bad_part_costs_its_conversation_only(tmp_path: Path) -> None:
    good = [chat(("human", "q"), ("gpt", "a"), id_=id_) for id_ in ("a_0", "b_0", "b_2", "b_0", "c_0")]
    for bad, why in (
        (chat(("alien", "x"), id_="b_2"), "unknown role: alien"),
        ({"id": "b_2"}, "missing field: conversations"),
        (chat(("human", "\udc80"), ("gpt", "a"), id_="b_2"), "not valid UTF-8"),
    ):
        found = read(tmp_path / "x.json", [*good[:2], bad, *good[3:]])
        by = "read" if "UTF-8" in why else "layout"
        assert [outcome(item) for item in found] == [
            ("#1", "u:q a:a "),
            (by, why),
            ("layout", JOINED),
            ("#1.2/part3", "u:q a:a "),
            ("#1.5", "u:q a:a "),
        ]


def test_a_list_that_was_not_grouped_is_no_conversation() -> None:
    row = RawRow(1, 1, json.dumps([chat(("human", "q"), ("gpt", "a"))] * 2).encode())
    assert [outcome(item) for item in examples("sharegpt", "x.json", row, 0)] == [("layout", "not a JSON object")]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=8))
def test_each_part_is_answered_for(tmp_path_factory: pytest.TempPathFactory, ids: list[tuple[str, int]]) -> None:
    rows = [chat(("human", f"q{at}"), ("gpt", f"a{at}"), id_=f"{name}_{n}") for at, (name, n) in enumerate(ids)]
    found = read(tmp_path_factory.getbasetemp() / "parts.json", rows)
    assert len(found) == len(rows)
    kept = [item for item in found if isinstance(item, Example)]
    said = [turn.text for item in kept for turn in item.turns]
    assert said == [text for at in range(len(ids)) for text in (f"q{at}", f"a{at}")], "nothing is lost or said twice"
    assert len({item.id for item in kept}) == len(kept)
    ends = sum(one[0] != other[0] or one[1] >= other[1] for one, other in pairwise(ids))
    assert len(kept) == (ends + 1 if ids else 0)
