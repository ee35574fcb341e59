"""Bad input in every source's layout: the account is exact, and the good rows beside it lose nothing."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.recipe import SOURCE_NAMES
from koala_ray.records import Example, Rejected
from koala_ray.samples import layouts
from koala_ray.sources.raw import RawFault, RawRow, read_rows
from koala_ray.sources.registry import SOURCES, examples

Row = dict[str, Any]
Items = list[Example | Rejected]
Outcome = str | tuple[str, str]
"""The side that was kept, or the filter and the reason."""

# Each layout, from its sample file


@dataclass(frozen=True)
class Layout:
    """A source's real rows, and how texts of a test's choice are put into one."""

    sample: Callable[[], bytes]
    put: Callable[[Any, Any], Row]
    """What the user says, and the first answer → the fields to change."""
    sides: tuple[str, ...]
    """What a row with these fields gives."""
    fields: tuple[str, str]
    """What the reasons call the two fields."""

    def row(self, asked: Any = "How are you?", answer: Any = "Very well.") -> Row:
        return sample_rows(self.sample)[0] | self.put(asked, answer)


@cache
def sample_rows(sample: Callable[[], bytes]) -> list[Row]:
    data = sample()
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    return json.loads(data) if data.startswith(b"[") else [json.loads(line) for line in data.splitlines()]


def identity() -> bytes:
    """There is no sample of it: the sample prompts, answered."""
    asked = [json.loads(line)["prompt"] for line in layouts.prompts().splitlines()]
    return b"\n".join(json.dumps({"question": text, "answer": "I am Koala."}).encode() for text in asked)


def chat(*messages: tuple[str, Any]) -> Row:
    return {"conversations": [{"from": role, "value": text} for role, text in messages]}


def tagged(tags: dict[str, str], between: str, messages: tuple[tuple[str, Any], ...]) -> Any:
    """A dialogue as one text; what is no text takes its place."""
    strange = [text for _, text in messages if not isinstance(text, str)]
    return strange[0] if strange else "".join(f"{between}{tags[role]}: {text}" for role, text in messages)


def oig(*messages: tuple[str, Any]) -> Row:
    return {"text": tagged({"human": "<human>", "gpt": "<bot>"}, "\n", messages)}


def hh(*messages: tuple[str, Any]) -> Row:
    tags = {"human": "Human", "gpt": "Assistant"}
    asked = [(role, text if isinstance(text, str) else "Well?") for role, text in messages[:-1]]
    last = [(messages[-1][0], "Not at all.")]
    return {"chosen": tagged(tags, "\n\n", messages), "rejected": tagged(tags, "\n\n", (*asked, *last))}


def summarize(asked: Any, answer: Any) -> Row:
    return {"info": {"post": asked}, "summaries": [{"text": answer}, {"text": "It says no."}], "choice": 0}


def webgpt(asked: Any, answer: Any) -> Row:
    none: Row = {"title": [], "extract": []}
    sides = {"quotes_0": none, "quotes_1": none, "answer_1": "I can't say.", "score_0": 0.5, "score_1": -0.5}
    return {"question": {"full_text": asked}, "answer_0": answer} | sides


PAIR = ("chosen", "rejected")
DIALOGUES: dict[str, Callable[..., Row]] = {"sharegpt": chat, "oig": oig, "hh": hh, "identity": chat}
"""The sources whose rows hold several turns."""
LAYOUTS = {
    "sharegpt": Layout(
        layouts.sharegpt, lambda ask, reply: chat(("human", ask), ("gpt", reply)), ("",), ("value", "value")
    ),
    "hc3": Layout(
        layouts.hc3,
        lambda ask, reply: {"question": ask, "human_answers": [reply], "chatgpt_answers": ["Yes and no."]},
        ("human0", "chatgpt0"),
        ("question", "human_answers"),
    ),
    "oig": Layout(
        layouts.oig_poetry_to_songs, lambda ask, reply: oig(("human", ask), ("gpt", reply)), ("",), ("text", "text")
    ),
    "alpaca": Layout(
        layouts.alpaca,
        lambda ask, reply: {"instruction": ask, "input": "", "output": reply},
        ("",),
        ("instruction", "output"),
    ),
    "hh": Layout(layouts.hh, lambda ask, reply: hh(("human", ask), ("gpt", reply)), PAIR, ("chosen", "chosen")),
    "webgpt": Layout(layouts.webgpt, webgpt, PAIR, ("question.full_text", "answer_0")),
    "summarize": Layout(layouts.summarize, summarize, PAIR, ("info.post", "summaries.0.text")),
    "identity": Layout(identity, lambda ask, reply: {"question": ask, "answer": reply}, ("",), ("question", "answer")),
}
every_source = pytest.mark.parametrize("source", SOURCE_NAMES)
lines_and_array = pytest.mark.parametrize("array", [False, True], ids=["lines", "array"])


def as_json(row: Row | list[Row]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_file(rows: list[bytes], array: bool) -> bytes:
    """Row k stands on line k, in an array on line k + 1."""
    return b"[\n" + b",\n".join(rows) + b"\n]\n" if array else b"\n".join(rows) + b"\n"


def read(path: Path, source: str) -> Items:
    """All that a raw file gives, as the curation step reads it."""
    found: Items = []
    for item in read_rows(str(path), SOURCES[source].group):
        if isinstance(item, RawFault):
            item.excerpt.encode()
            found.append(Rejected(source, "x", item.line, "read", item.reason, item.excerpt))
        else:
            found += examples(source, "x", item, 0)
    return found


def read_data(data: bytes, source: str, name: str = "x") -> Items:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(data)
        return read(Path(folder, name), source)


def alone(source: str, row: bytes, line: int) -> Items:
    """What a row gives, whatever stands beside it."""
    return examples(source, "x", RawRow(line, 1, row), 0)


def outcome(item: Example | Rejected) -> Outcome:
    return (item.filter, item.reason) if isinstance(item, Rejected) else item.id[len(item.pair) + 1 :]


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


NOTHING = "no exchange of a user and an assistant"
OTHER_SIDE = "the other side can't be read"

# Good rows in every form


@every_source
def test_good_rows_are_read_alike_in_every_form(tmp_path: Path, source: str) -> None:
    rows = [
        LAYOUTS[source].row(),
        LAYOUTS[source].row("Où ?", "Là-bas.\n\nÀ gauche."),
        *sample_rows(LAYOUTS[source].sample)[:9],
    ]
    if source == "sharegpt":  # the first ones have one id: parts of one conversation
        rows = [row | {"id": f"{place}_0"} for place, row in enumerate(rows)]
    data = [as_json(row) for row in rows]
    expected = [[item.turns for item in alone(source, row, 1) if isinstance(item, Example)] for row in data]
    assert len(expected[0]) == len(LAYOUTS[source].sides)
    forms = {
        "x.jsonl": as_file(data, False),
        "array.jsonl": as_file(data, True),
        "x.json": json.dumps(rows, indent=2).encode(),
        "lines.json": as_file(data, False),
        "bom.jsonl": b"\xef\xbb\xbf" + as_file(data, False),
        "bom.json": b"\xef\xbb\xbf" + as_file(data, True),
        "crlf.jsonl": as_file(data, False).replace(b"\n", b"\r\n"),
        "crlf.json": as_file(data, True).replace(b"\n", b"\r\n"),
        "blank.jsonl": as_file(data, False).replace(b"\n", b"\n \n\n"),
        "x.parquet": in_parquet(rows),
    }
    for name in ("x.jsonl", "x.json"):
        forms[f"{name}.gz"] = gzip.compress(forms[name])
        forms[f"{name}.zst"] = in_zstd(forms[name])
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        found = read(tmp_path / name, source)
        kept = [item for item in found if isinstance(item, Example)]
        assert [item.turns for item in kept] == [turns for row in expected for turns in row], name
        assert len({item.id for item in kept}) == len(kept)


def in_zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


def in_parquet(rows: list[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("damaged", [None, 0, 1, 4])
def test_webgpt_with_an_array_on_each_line(damaged: int | None) -> None:
    flat = sample_rows(layouts.webgpt)[:5]
    lines = [
        as_json([{"question": row["question"]} | {name: row[f"{name}_{at}"] for name in names} for at in (0, 1)])
        for row in flat
        for names in [("answer", "quotes", "score")]
    ]
    expected = [alone("webgpt", as_json(row), line) for line, row in enumerate(flat, 1)]
    if damaged is not None:
        lines[damaged] = lines[damaged][:-30]
        expected[damaged] = [Rejected("webgpt", "x", damaged + 1, "read", "not valid JSON")]
    found = read_data(as_file(lines, False), "webgpt")
    whole = [item for items in expected for item in items]
    assert [outcome(item) for item in found] == [outcome(item) for item in whole]
    kept = [item for item in found if isinstance(item, Example)]
    assert kept == [item for item in whole if isinstance(item, Example)]


# Cut-off files


@every_source
@lines_and_array
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_file_cut_anywhere_keeps_the_rows_before_the_cut(source: str, array: bool, data: st.DataObject) -> None:
    rows = [as_json(row) for row in sample_rows(LAYOUTS[source].sample)[:3]]
    whole = as_file(rows, array)
    cut = data.draw(st.integers(1, len(whole) - 1))
    found = read_data(whole[:cut], source)
    ends = [whole.index(row) + len(row) for row in rows]
    kept = sum(end <= cut for end in ends)
    expected = [item for place, row in enumerate(rows[:kept], 1) for item in alone(source, row, place + array)]
    assert found[: len(expected)] == expected
    lost = found[len(expected) :]
    if array:
        closed = cut >= len(whole) - 1
        assert [outcome(item) for item in lost] == [] if closed else [("read", "cut-off JSON")]
    else:
        begun = whole[:cut].rpartition(b"\n")[2] not in (b"", *rows)
        assert [outcome(item) for item in lost] == [("read", "not valid JSON")] * begun


@every_source
@pytest.mark.parametrize("pack", [gzip.compress, in_zstd])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_a_packed_file_cut_anywhere_says_so(source: str, pack: Callable[[bytes], bytes], data: st.DataObject) -> None:
    rows = [as_json(row) for row in sample_rows(LAYOUTS[source].sample)[:6]]
    packed = pack(as_file(rows, False))
    cut = data.draw(st.integers(1, len(packed) - 1))
    *kept, last = read_data(packed[:cut], source, "x.gz" if pack is gzip.compress else "x.zst")
    assert outcome(last) == ("read", "damaged compression")
    whole = [item for place, row in enumerate(rows, 1) for item in alone(source, row, place)]
    assert kept == whole[: len(kept)]


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


# The same row or id again


@every_source
@lines_and_array
def test_rows_with_one_id_are_all_kept(source: str, array: bool) -> None:
    layout = LAYOUTS[source]
    same = layout.row()
    rows = [as_json(row) for row in (same, same, layout.row("And you?"), same)]
    found = read_data(as_file(rows, array), source)
    assert [isinstance(item, Example) for item in found] == [True] * 4 * len(layout.sides)
    assert len({item.id for item in found if isinstance(item, Example)}) == len(found)


# Anything

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
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


def check_items(items: Items) -> None:
    """What must hold whatever was read: unique ids, texts that can be stored, reasons for the rest."""
    kept = [item for item in items if isinstance(item, Example)]
    assert len({item.id for item in kept}) == len(kept)
    for item in kept:
        assert item.id.startswith(item.pair)
        assert [turn.role for turn in item.turns] == ["user", "assistant"] * (len(item.turns) // 2)
        assert any(turn.learn for turn in item.turns)
        "".join(turn.text for turn in item.turns).encode()
    for rejected in items:
        if isinstance(rejected, Rejected):
            assert rejected.filter in ("read", "layout")
            assert rejected.reason
            f"{rejected.reason}{rejected.excerpt}".encode()
            assert len(rejected.excerpt) <= 200


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


DAMAGE = st.lists(
    st.tuples(st.integers(0), st.integers(0, 30), st.binary(max_size=6) | st.sampled_from([b'"', b"\n", b"}", b"\\"])),
    min_size=1,
    max_size=4,
)
"""Where, how many bytes are taken away, and what is put there."""


@every_source
@settings(deadline=None, max_examples=40)
@given(damage=DAMAGE)
def test_any_damage_to_lines_costs_the_damaged_lines(source: str, damage: list[tuple[int, int, bytes]]) -> None:
    whole = bytearray(as_file([as_json(row) for row in sample_rows(LAYOUTS[source].sample)[:5]], False))
    for place, size, put in damage:
        place %= len(whole) or 1
        whole[place : place + size] = put
    found = read_data(bytes(whole), source)
    check_items(found)
    body = whole.removeprefix(b"\xef\xbb\xbf")
    if body.strip() and not body.lstrip().startswith(b"["):
        lines = [(line, row.strip()) for line, row in enumerate(bytes(body).split(b"\n"), 1) if row.strip()]
        expected = [item for line, row in lines for item in alone(source, row, line)]
        assert [item.line for item in found] == [item.line for item in expected]
        if SOURCES[source].group is None:
            assert found == expected


@every_source
@settings(deadline=None, max_examples=40)
@given(damage=DAMAGE)
def test_any_damage_to_an_array_spares_the_rows_before_it(source: str, damage: list[tuple[int, int, bytes]]) -> None:
    rows = [as_json(row) for row in sample_rows(LAYOUTS[source].sample)[:5]]
    whole = bytearray(as_file(rows, True))
    ends = [whole.index(row) + len(row) for row in rows]
    earliest = len(whole)
    for place, size, put in damage:
        place %= len(whole) or 1
        earliest = min(earliest, place)
        whole[place : place + size] = put
    found = read_data(bytes(whole), source)
    check_items(found)
    spared = rows[: sum(end < earliest for end in ends)]
    expected = [item for place, row in enumerate(spared, 1) for item in alone(source, row, place + 1)]
    assert found[: len(expected)] == expected


@every_source
@pytest.mark.parametrize("name", ["x.gz", "x.zst", "x.parquet"])
@settings(deadline=None, max_examples=20)
@given(damage=DAMAGE)
def test_any_damage_to_a_packed_file_is_told(source: str, name: str, damage: list[tuple[int, int, bytes]]) -> None:
    rows = sample_rows(LAYOUTS[source].sample)[:5]
    lines = as_file([as_json(row) for row in rows], False)
    whole = {"x.gz": gzip.compress(lines), "x.zst": in_zstd(lines), "x.parquet": in_parquet(rows)}[name]
    damaged = bytearray(whole)
    for place, size, put in damage:
        place %= len(damaged) or 1
        damaged[place : place + size] = put
    found = read_data(bytes(damaged), source, name)
    check_items(found)
    good = read_data(whole, source, name)
    assert len(found) >= len(good) or any(isinstance(item, Rejected) and item.filter == "read" for item in found)
