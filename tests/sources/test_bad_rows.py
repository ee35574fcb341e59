"""Rows of every source with bad or strange values: the account is exact, and the good rows beside them stay."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import JSON
from layout_rows import (
    DIALOGUES,
    LAYOUTS,
    Items,
    Outcome,
    alone,
    as_file,
    as_json,
    check_items,
    every_source,
    lines_and_array,
    outcome,
    read_data,
    sample_rows,
)

from koala_ray.records import Example, Rejected
from koala_ray.sources.registry import SOURCES

NOTHING = "no exchange of a user and an assistant"
OTHER_SIDE = "the other side can't be read"


def read_between(source: str, row: bytes, array: bool, expected: list[Outcome]) -> Items:
    """What a row between two good ones gives; the file's account must be this row's and the good ones', whole."""
    first, last = (as_json(good) for good in sample_rows(LAYOUTS[source].sample)[1:3])
    found = read_data(as_file([first, row, last], array), source)
    before, after = (alone(source, good, line + array) for good, line in ((first, 1), (last, 3)))
    assert all(isinstance(item, Example) for item in before + after)
    assert found[: len(before)] == before
    assert found[len(found) - len(after) :] == after
    middle = found[len(before) : len(found) - len(after)]
    assert [outcome(item) for item in middle] == expected
    assert {item.line for item in middle} == {2 + array}
    return middle


def without_asked(source: str, reason: str, by: str = "layout") -> list[Outcome]:
    """The account of a row whose question is unusable: all that would answer it is lost."""
    return [(by, reason)] * len(LAYOUTS[source].sides)


def without_answer(source: str, reason: str, by: str = "layout") -> list[Outcome]:
    """The account of a row whose first answer is unusable: the others stay."""
    return [(by, reason), *LAYOUTS[source].sides[1:]]


# Bad texts


@every_source
@lines_and_array
def test_bytes_that_are_not_utf8_cost_what_holds_them(source: str, array: bool) -> None:
    layout = LAYOUTS[source]
    reason = "not valid UTF-8"
    for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80"):
        asked = as_json(layout.row(asked="Who @ there?")).replace(b"@", bad)
        read_between(source, asked, array, without_asked(source, reason, "read"))
        answer = as_json(layout.row(answer="It @ me.")).replace(b"@", bad)
        read_between(source, answer, array, without_answer(source, reason, "read"))


@every_source
@lines_and_array
def test_nulls(source: str, array: bool) -> None:
    layout = LAYOUTS[source]
    asked = without_asked(source, f"missing field: {layout.fields[0]}")
    answer = without_answer(source, f"missing field: {layout.fields[1]}")
    if source == "sharegpt":
        asked = answer = [("layout", NOTHING)]
    if source == "hh":
        asked = answer = [("layout", "missing field: chosen"), ("layout", OTHER_SIDE)]
    if source == "hc3":
        asked = asked[:1]
    read_between(source, as_json(layout.row(asked=None)), array, asked)
    read_between(source, as_json(layout.row(answer=None)), array, answer)


@every_source
@lines_and_array
@pytest.mark.parametrize("value", [5, -0.5, True, [], ["a"], {}, {"a": None}, [[None]]], ids=repr)
def test_what_is_no_text(source: str, array: bool, value: object) -> None:
    layout = LAYOUTS[source]
    asked = without_asked(source, f"not a text: {layout.fields[0]}")
    answer = without_answer(source, f"not a text: {layout.fields[1]}")
    if source == "hh":  # a list is its other spelling of a side
        reason = "not a text: chosen"
        if isinstance(value, list):
            reason = "not a JSON object" if value else NOTHING
        asked = answer = [("layout", reason), ("layout", OTHER_SIDE)]
    if source == "hc3":
        asked = asked[:1]
    read_between(source, as_json(layout.row(asked=value)), array, asked)
    read_between(source, as_json(layout.row(answer=value)), array, answer)


@every_source
@lines_and_array
@pytest.mark.parametrize(
    "value", [None, 5, "text", [], [None], {}, {"a": {"b": [None]}}, {"conversations": [None]}], ids=repr
)
def test_what_is_no_row(source: str, array: bool, value: object) -> None:
    row = json.dumps(value).encode()
    expected = [outcome(item) for item in alone(source, row, 1)]
    assert expected
    assert all(isinstance(item, tuple) and item[0] == "layout" for item in expected)
    read_between(source, row, array, expected)


@every_source
@lines_and_array
@pytest.mark.parametrize("blank", ["", " ", "\n\t \r\n", "\u3000\u00a0"], ids=ascii)
def test_only_white_space(source: str, array: bool, blank: str) -> None:
    layout = LAYOUTS[source]
    asked, answer = without_asked(source, "empty question"), without_answer(source, "empty answer")
    if source in ("sharegpt", "oig"):
        asked = answer = [("layout", NOTHING)]
    if source == "hh":
        asked = [("layout", NOTHING)] * 2
    if source == "summarize":
        asked = without_asked(source, "empty post")
    if source == "hc3":
        asked = asked[:1]
    read_between(source, as_json(layout.row(asked=blank)), array, asked)
    read_between(source, as_json(layout.row(answer=blank)), array, answer)


# Strange texts, which are texts

STRANGE = {
    "control characters": "a\0b\x07c\x1b[31md\x7fe\u0085f\u2028g\u200bh\ufeffi",
    "right to left": "مرحبا، كيف حالك؟ \u202eabc\u202c שלום",
    "template markers": "USER: hi GPT:no</s><s>An Unhelpful Answer: x </s>BEGINNING OF CONVERSATION: USER: y GPT:",
    "other markers": "say ### Human: or <|im_start|> or [INST] or <human>: or Human: in a line",
    "beyond the basic plane": "\U0001f468\u200d\U0001f469\u200d\U0001f467 𝕳𝖎 \U000e0001",
    "JSON in a text": '{"conversations": [{"from": "human", "value": "\\"}]}, {"id": 1',
    "a number": "12",
}


@every_source
@lines_and_array
@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_strange_texts_come_through_as_they_stand(source: str, array: bool, text: str) -> None:
    layout = LAYOUTS[source]
    for ascii_only in (False, True):
        row = json.dumps(layout.row(text, f"It is: {text}"), ensure_ascii=ascii_only).encode()
        found = read_between(source, row, array, list(layout.sides))
        for item in found:
            assert isinstance(item, Example)
            assert item.repairs == ()
            assert [turn.role for turn in item.turns] == ["user", "assistant"]
            assert text in item.turns[0].text
            if source not in ("webgpt", "summarize"):
                assert item.turns[0].text == text
        assert isinstance(found[0], Example)
        assert found[0].turns[1].text == f"It is: {text}"


@every_source
@lines_and_array
def test_control_characters_that_json_forbids_cost_the_row(source: str, array: bool) -> None:
    for character in b"\x00\x01\x1f\t":
        row = as_json(LAYOUTS[source].row(asked="Who @ there?")).replace(b"@", bytes([character]))
        read_between(source, row, array, [("read", "not valid JSON")])


TEN_MB = "seven \u00e9 " * 1_111_112


@every_source
def test_ten_megabytes_in_one_field(source: str) -> None:
    layout = LAYOUTS[source]
    row = as_json(layout.row(answer=TEN_MB))
    assert len(row) > 10_000_000
    found = read_between(source, row, source in ("sharegpt", "alpaca"), list(layout.sides))
    assert isinstance(found[0], Example)
    assert found[0].turns[-1].text == TEN_MB.strip()
    (cut_off,) = read_data(row[:-20], source)
    assert isinstance(cut_off, Rejected)
    assert (cut_off.reason, len(cut_off.excerpt)) == ("not valid JSON", 200)


# Turns


@pytest.mark.parametrize("source", DIALOGUES)
@lines_and_array
def test_ten_thousand_turns(source: str, array: bool) -> None:
    messages = [("human" if place % 2 == 0 else "gpt", f"message {place}") for place in range(10_000)]
    row = DIALOGUES[source](*messages)
    for item in read_between(source, as_json(row), array, list(LAYOUTS[source].sides)):
        assert isinstance(item, Example)
        assert [turn.text for turn in item.turns[:-1]] == [text for _, text in messages[:-1]]
        assert len(item.turns) == 10_000


@pytest.mark.parametrize("source", DIALOGUES)
@lines_and_array
def test_two_turns_of_one_role_are_joined(source: str, array: bool) -> None:
    row = DIALOGUES[source](("human", "a"), ("human", "b"), ("gpt", "c"), ("gpt", "d"), ("human", "e"), ("gpt", "f"))
    for item in read_between(source, as_json(row), array, list(LAYOUTS[source].sides)):
        assert isinstance(item, Example)
        assert [turn.text for turn in item.turns[:-1]] == ["a\n\nb", "c\n\nd", "e"]
        assert item.repairs == ("turns of one role joined",)


@pytest.mark.parametrize("source", DIALOGUES)
@lines_and_array
def test_no_exchange(source: str, array: bool) -> None:
    lost: list[Outcome] = [("layout", NOTHING)] * len(LAYOUTS[source].sides)
    read_between(source, as_json(DIALOGUES[source](("gpt", "a"))), array, lost)
    read_between(source, as_json(DIALOGUES[source](("gpt", "a"), ("gpt", "b"))), array, lost)
    if source == "hh":  # a last question is compared as one whose answer is empty
        lost = [("layout", "empty answer")] * 2
    read_between(source, as_json(DIALOGUES[source](("human", "a"))), array, lost)
    read_between(source, as_json(DIALOGUES[source](("gpt", "a"), ("human", "b"))), array, lost)


# Any values

ODD = st.sampled_from(["", " ", "\ud800", None, 5, [], {}, "a\n\nHuman: b", "<bot>: c"]) | JSON


@st.composite
def nearly_rows(draw: st.DrawFn, source: str) -> Any:
    """A real row with something in it changed or left out, or any JSON value."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    row = json.loads(json.dumps(draw(st.sampled_from(sample_rows(LAYOUTS[source].sample)))))
    for _ in range(draw(st.integers(0, 3))):
        place: Any = row
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(ODD)
            else:
                del place[key]
            break
    return row


@every_source
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_values_are_accounted_for(source: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(nearly_rows(source), min_size=1, max_size=5))
    rows = [json.dumps(value).encode() for value in values]
    one_by_one = [alone(source, row, place) for place, row in enumerate(rows, 1)]
    assert all(one_by_one), "each row is kept or rejected"
    in_array = read_data(as_file(rows, True), source)
    check_items(in_array)
    assert len(in_array) == sum(map(len, one_by_one))
    if len(rows) > 1 or not isinstance(values[0], list):  # else the file is that list
        in_lines = read_data(as_file(rows, False), source)
        assert [outcome(item) for item in in_lines] == [outcome(item) for item in in_array]
        assert [item.line + 1 for item in in_lines] == [item.line for item in in_array]
        if SOURCES[source].group is None:
            assert in_lines == [item for items in one_by_one for item in items]
