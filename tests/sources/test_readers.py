from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.records import Example, Rejected, Turn
from koala_ray.sources import sharegpt
from koala_ray.sources.base import Dialogue, Found, RowRejected, alternate, check_text
from koala_ray.sources.registry import SOURCES, read_examples

SURROGATE = "\ud800"


def parsed(source: str, value: object) -> list[Found]:
    return list(SOURCES[source].parse(value))


def texts(found: Dialogue | RowRejected) -> list[tuple[str, str]]:
    assert not isinstance(found, RowRejected), found.reason
    return [(turn.role, turn.text) for turn in found]


def reason(source: str, value: object) -> str:
    with pytest.raises(RowRejected) as caught:
        parsed(source, value)
    return caught.value.reason


def examples(folder: Path, source: str, values: list[Any], name: str = "x.jsonl") -> list[Example | Rejected]:
    text = json.dumps(values) if name.endswith(".json") else "\n".join(map(json.dumps, values))
    (folder / name).write_text(text)
    return list(read_examples(source, str(folder / name), f"some/folder/{name}"))


# Alpaca


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"instruction": " Name a tree. ", "input": "", "output": " An oak. \n"}, "Name a tree."),
        ({"instruction": "Name a tree.", "output": "An oak."}, "Name a tree."),
        ({"instruction": "Name a tree.", "input": None, "output": "An oak."}, "Name a tree."),
        ({"instruction": "Translate:", "input": "chêne", "output": "An oak."}, "Translate: chêne"),
        ({"instruction": "", "input": "Name a tree.", "output": "An oak."}, "Name a tree."),
    ],
)
def test_alpaca_asks_with_the_instruction_and_the_input(row: dict[str, Any], asked: str) -> None:
    ((side, dialogue),) = parsed("alpaca", row)
    assert side == ""
    assert dialogue == (Turn("user", asked), Turn("assistant", "An oak.", "positive", learn=True))


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
    assert reason("alpaca", row) == why


# HC3


def test_hc3_gives_an_example_for_each_answer() -> None:
    row = {"question": " Why? ", "human_answers": ["Because.", " So. "], "chatgpt_answers": ["As a model…"], "id": "7"}
    found = parsed("hc3", row)
    assert [side for side, _ in found] == ["human0", "human1", "chatgpt0"]
    assert [texts(dialogue) for _, dialogue in found] == [
        [("user", "Why?"), ("assistant", "Because.")],
        [("user", "Why?"), ("assistant", "So.")],
        [("user", "Why?"), ("assistant", "As a model…")],
    ]
    assert all(isinstance(d, tuple) and [turn.learn for turn in d] == [False, True] for _, d in found)


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
    assert reason("hc3", row) == why


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
    found = parsed("hc3", {"question": "Why?", "human_answers": human, "chatgpt_answers": chatgpt})
    assert {side: item.reason if isinstance(item, RowRejected) else None for side, item in found} == expected


def test_hc3_counts_a_side_that_is_missing() -> None:
    found = parsed("hc3", {"question": "Why?"})
    assert [item.reason for _, item in found if isinstance(item, RowRejected)] == [
        "missing field: human_answers",
        "missing field: chatgpt_answers",
    ]


# ShareGPT


def chat(*messages: tuple[str, object]) -> dict[str, object]:
    return {"id": "abc_0", "conversations": [{"from": role, "value": text} for role, text in messages]}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("human", " Hi "), ("gpt", "Hello!")], [("user", "Hi"), ("assistant", "Hello!")]),
        (
            [("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")],
            [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        ),
        ([("user", "a"), ("chatgpt", "b")], [("user", "a"), ("assistant", "b")]),
        ([("user", "a"), ("bing", "b")], [("user", "a"), ("assistant", "b")]),
        ([("user", "a"), ("bard", "b")], [("user", "a"), ("assistant", "b")]),
        ([("system", "Be kind."), ("human", "a"), ("assistant", "b")], [("user", "a"), ("assistant", "b")]),
        ([("gpt", "lost"), ("human", "a"), ("gpt", "b")], [("user", "a"), ("assistant", "b")]),
        ([("gpt", "lost"), ("gpt", "too"), ("human", "a"), ("gpt", "b")], [("user", "a"), ("assistant", "b")]),
        ([("human", "a"), ("gpt", "b"), ("human", "unanswered")], [("user", "a"), ("assistant", "b")]),
        ([("human", "a"), ("human", "b"), ("gpt", "c")], [("user", "a\n\nb"), ("assistant", "c")]),
        ([("human", "a"), ("gpt", "b"), ("gpt", "c")], [("user", "a"), ("assistant", "b\n\nc")]),
        ([("human", "a"), ("gpt", " "), ("gpt", "b")], [("user", "a"), ("assistant", "b")]),
        ([("human", ""), ("human", "a"), ("gpt", None), ("gpt", "b")], [("user", "a"), ("assistant", "b")]),
        ([("human", "a"), ("gpt", ""), ("human", "b"), ("gpt", "c")], [("user", "a\n\nb"), ("assistant", "c")]),
        ([(" human ", "a"), ("gpt", "b")], [("user", "a"), ("assistant", "b")]),
    ],
)
def test_sharegpt_alternates(messages: list[tuple[str, object]], expected: list[tuple[str, str]]) -> None:
    ((side, dialogue),) = parsed("sharegpt", chat(*messages))
    assert (side, texts(dialogue)) == ("", expected)
    assert isinstance(dialogue, tuple)
    assert [(turn.learn, turn.marker) for turn in dialogue] == [(False, "none"), (True, "positive")] * (
        len(dialogue) // 2
    )


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
        ([], "not a JSON object"),
    ],
)
def test_sharegpt_rejects(row: object, why: str) -> None:
    assert reason("sharegpt", row) == why


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.sampled_from(["", "a", "b"]))))
def test_alternate_always_alternates(messages: list[Any]) -> None:
    try:
        dialogue = alternate(messages)
    except RowRejected:
        said = "".join(role[0] for role, text in messages if text)
        assert "ua" not in said
        return
    assert [turn.role for turn in dialogue] == ["user", "assistant"] * (len(dialogue) // 2)
    assert len(dialogue) >= 2
    assert all(turn.text for turn in dialogue)


# Any source, through the registry

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.sampled_from(["", " ", "a", "b\n", SURROGATE]) | JSON
MESSAGE = st.fixed_dictionaries(
    {}, optional={"from": st.sampled_from([*sharegpt.ROLES, "alien"]) | JSON, "value": TEXT}
)
NEARLY = {
    "alpaca": st.fixed_dictionaries({}, optional={"instruction": TEXT, "input": TEXT, "output": TEXT}),
    "hc3": st.fixed_dictionaries(
        {},
        optional={
            "question": TEXT,
            "human_answers": st.lists(TEXT, max_size=3) | JSON,
            "chatgpt_answers": st.lists(TEXT, max_size=3) | JSON,
        },
    ),
    "sharegpt": st.fixed_dictionaries({}, optional={"conversations": st.lists(MESSAGE | JSON, max_size=5) | JSON}),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_every_row_is_kept_or_rejected(source: str, name: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(NEARLY[source] | JSON, min_size=1, max_size=5))
    if name == "x.jsonl" and isinstance(values[0], list):
        values.insert(0, None)  # a file that begins with a bracket is an array
    for value in values:
        with suppress(RowRejected):
            list(SOURCES[source].parse(value))
    with tempfile.TemporaryDirectory() as folder:
        found = examples(Path(folder), source, values, name)
        again = list(read_examples(source, str(Path(folder, name)), "some/folder/" + name))
        one_by_one = [len(examples(Path(folder), source, [value], "one.json")) for value in values]
    assert min(one_by_one) >= 1
    assert len(found) == sum(one_by_one)
    if name == "x.jsonl":
        assert Counter(item.line for item in found) == dict(enumerate(one_by_one, start=1))
    kept = [item for item in found if isinstance(item, Example)]
    assert len({item.id for item in kept}) == len(kept), "two examples share an id"
    assert [item.id for item in kept] == [item.id for item in again if isinstance(item, Example)]
    for item in kept:
        assert item.id.startswith(item.pair)
        assert item.turns[-1].role == "assistant"
        "".join(turn.text for turn in item.turns).encode()
    for item in found:
        if isinstance(item, Rejected):
            assert item.reason
            item.excerpt.encode()


def test_ids_name_source_file_line_and_side(tmp_path: Path) -> None:
    row = {"question": "q", "human_answers": ["a", "", "b"], "chatgpt_answers": ["c"]}
    found = examples(tmp_path, "hc3", [row, row])
    assert [item.id if isinstance(item, Example) else item.reason for item in found] == [
        "hc3/some/folder/x.jsonl#1/human0",
        "empty answer",
        "hc3/some/folder/x.jsonl#1/human2",
        "hc3/some/folder/x.jsonl#1/chatgpt0",
        "hc3/some/folder/x.jsonl#2/human0",
        "empty answer",
        "hc3/some/folder/x.jsonl#2/human2",
        "hc3/some/folder/x.jsonl#2/chatgpt0",
    ]
    assert {item.pair for item in found if isinstance(item, Example)} == {
        "hc3/some/folder/x.jsonl#1",
        "hc3/some/folder/x.jsonl#2",
    }
    assert {(item.file, item.line) for item in found} == {("some/folder/x.jsonl", 1), ("some/folder/x.jsonl", 2)}


def test_rows_of_an_array_on_one_line_have_ids_and_pairs_of_their_own(tmp_path: Path) -> None:
    values = [{"instruction": f"i{place}", "output": "o"} for place in range(3)]
    on_one_line = examples(tmp_path, "alpaca", values, "x.json")
    assert [item.id for item in on_one_line if isinstance(item, Example)] == [
        "alpaca/some/folder/x.json#1",
        "alpaca/some/folder/x.json#1.2",
        "alpaca/some/folder/x.json#1.3",
    ]
    assert len({item.pair for item in on_one_line if isinstance(item, Example)}) == 3
    (tmp_path / "x.json").write_text(json.dumps(values, indent=1))
    indented = read_examples("alpaca", str(tmp_path / "x.json"), "x.json")
    assert [item.id for item in indented if isinstance(item, Example)] == [
        "alpaca/x.json#2",
        "alpaca/x.json#6",
        "alpaca/x.json#10",
    ]


def test_text_that_is_not_unicode_costs_its_side_only(tmp_path: Path) -> None:
    row = {"question": "q", "human_answers": ["a", f"b{SURROGATE}", "c"], "chatgpt_answers": ["d"]}
    found = examples(tmp_path, "hc3", [row])
    assert [item.id[-6:] if isinstance(item, Example) else item.reason for item in found] == [
        "human0",
        "not valid UTF-8",
        "human2",
        "atgpt0",
    ]
    with pytest.raises(RowRejected):
        check_text((Turn("user", SURROGATE),))


def test_what_a_damaged_file_holds_is_rejected_with_its_line_and_beginning(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"instruction": "a", "output": "b"}\n{"instruction": "\xff", "output": "b"}\n{"instr')
    kept, not_unicode, cut_off = read_examples("alpaca", str(path), "x.jsonl")
    assert isinstance(kept, Example)
    assert isinstance(not_unicode, Rejected)
    assert (not_unicode.line, not_unicode.reason) == (2, "not valid UTF-8")
    assert cut_off == Rejected("alpaca", "x.jsonl", 3, "not valid JSON", '{"instr')


def test_a_deeply_nested_row_is_rejected_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for depth in (100, 400, *range(800, 1000, 7), 5000):
        path.write_text('{"a": ' + "[" * depth + "]" * depth + "}\n")
        (item,) = read_examples("alpaca", str(path), "x.jsonl")
        assert isinstance(item, Rejected)
        assert item.reason in ("missing field: instruction", "not valid JSON")
