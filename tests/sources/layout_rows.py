"""Rows in every source's layout with texts of a test's choice, and what a file of them gives."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

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


# Files of them, and what is read


def as_json(row: Row | list[Row]) -> bytes:
    """A row as it stands in a file; half of a surrogate pair gives bytes that are not UTF-8."""
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
    """All that a raw file of these bytes gives."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(data)
        return read(Path(folder, name), source)


def alone(source: str, row: bytes, line: int) -> Items:
    """What a row gives, whatever stands beside it."""
    return examples(source, "x", RawRow(line, 1, row), 0)


def outcome(item: Example | Rejected) -> Outcome:
    """What became of a row or of one of its sides."""
    return (item.filter, item.reason) if isinstance(item, Rejected) else item.id[len(item.pair) + 1 :]


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
