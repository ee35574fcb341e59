"""ShareGPT: V3's JSON array of ``id`` and ``conversations``, and the extension's posts with ``items`` in their place.

V3 cuts long chats into neighbouring rows ``ID_0``, ``ID_11``, ``ID_17``: the number is the place of the part's first
message. A third of its rows therefore begin with an answer whose question stands in the row before. They are joined.
The posts' values are HTML, which is mended later: here a value is only a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from koala_ray.records import Role
from koala_ray.sources.base import JOINED, Found, PublicFile, RowRejected, Source, alternate, record, text_field

ROLES: dict[str, Role | None] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": None,  # the site's own preamble, said by neither side: left out
}
LISTS = ("conversations", "items", "messages")
"""Names of the field that holds the messages, the usual one first."""
SPEAKERS = ("from", "role", "user")
TEXTS = ("value", "content", "text")
"""Names of a message's two fields, the usual ones first."""
LONGEST_NUMBER = 9
"""Digits at the end of an id that count as a part's number."""


def group(value: object) -> str | None:
    """The conversation that a row is a part of: its id without the part's number; None where it has no such id."""
    return _name_and_number(value)[0]


def _name_and_number(value: object) -> tuple[str | None, int]:
    id_ = value.get("id") if isinstance(value, dict) else None
    name, _, number = id_.rpartition("_") if isinstance(id_, str) else ("", "", "")
    if name and number.isascii() and number.isdigit() and len(number) <= LONGEST_NUMBER:
        return name, int(number)
    return None, 0


def parse(value: object, seed: int) -> Iterator[Found]:
    """One conversation → one dialogue with every answer learnt.

    Neighbouring rows that :func:`group` puts together come as a list, and each of them is answered for: the part that
    begins a conversation by its dialogue, the others by saying that they were joined to it. A part whose number isn't
    above that of the part before begins a conversation of its own: the same chat was shared twice.
    """
    if not isinstance(value, list):
        yield _found("", [value])
        return
    numbers = [_name_and_number(part)[1] for part in value]
    begins = [place for place in range(len(value)) if place == 0 or numbers[place] <= numbers[place - 1]]
    for first, end in zip(begins, [*begins[1:], len(value)], strict=True):
        side = f"part{first + 1}" if first else ""
        try:
            yield _found(side, value[first:end])
        except RowRejected as rejected:
            yield Found(side, None, rejected.reason)
        for _ in range(first + 1, end):
            yield Found("", None, JOINED)


def _found(side: str, parts: Sequence[object]) -> Found:
    messages = [_message(item) for part in parts for item in _messages(part)]
    dialogue, repairs = alternate((role, text) for role, text in messages if role is not None)
    if len(parts) > 1:
        repairs = ("parts joined", *repairs)
    if any(role is None for role, _ in messages):
        repairs = (*repairs, "system message dropped")
    return Found(side, dialogue, repairs=repairs)


def _messages(part: object) -> list[object]:
    row = record(part)
    name = _first(row, LISTS)
    messages = row.get(name)
    if messages is None:
        raise RowRejected(f"missing field: {name}")
    if not isinstance(messages, list):
        raise RowRejected(f"not a list: {name}")
    return messages


def _message(item: object) -> tuple[Role | None, str]:
    message = record(item)
    role = text_field(message, _first(message, SPEAKERS)).lower()
    if role not in ROLES:
        raise RowRejected(f"unknown role: {role[:40]}")
    side = ROLES[role]
    return side, "" if side is None else text_field(message, _first(message, TEXTS), optional=True)


def _first(row: dict[str, object], names: Sequence[str]) -> str:
    """The first of the names that the row has a value for; the usual one where it has none."""
    for name in names:
        if row.get(name) is not None:
            return name
    return names[0]


SOURCE = Source(
    name="sharegpt",
    title="ShareGPT",
    licence="unclear: conversations shared by their users",
    citation="Koala: A Dialogue Model for Academic Research, BAIR blog, April 2023",
    home="https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered",
    published="about 60K dialogues, about 30K after curation",
    published_rows=60_000,
    published_kept=30_000,
    files=(
        PublicFile(
            "https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered/resolve/main/"
            "ShareGPT_V3_unfiltered_cleaned_split.json",
            "sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json",
        ),
    ),
    parse=parse,
    group=group,
)
