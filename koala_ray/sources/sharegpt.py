"""ShareGPT's V3 layout: one JSON array of ``id`` and ``conversations`` of ``from`` and ``value``."""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray.records import Role
from koala_ray.sources.base import Found, RowRejected, Source, alternate, record, text_field

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


def parse(value: object) -> Iterator[Found]:
    """One conversation → one dialogue with every answer learnt."""
    messages = record(value).get("conversations")
    if messages is None:
        raise RowRejected("missing field: conversations")
    if not isinstance(messages, list):
        raise RowRejected("not a list: conversations")
    yield "", alternate(_message(item) for item in messages if _role(item) is not None)


def _role(item: object) -> Role | None:
    name = text_field(record(item), "from")
    if name not in ROLES:
        raise RowRejected(f"unknown role: {name[:40]}")
    return ROLES[name]


def _message(item: object) -> tuple[Role, str]:
    role = _role(item)
    assert role is not None
    return role, text_field(record(item), "value", optional=True)


SOURCE = Source(
    name="sharegpt",
    title="ShareGPT",
    licence="unclear: conversations shared by their users",
    published="about 60K dialogues, about 30K after curation",
    citation="Koala: A Dialogue Model for Academic Research, BAIR blog, April 2023",
    suffixes=(".json", ".jsonl", ".json.gz", ".jsonl.gz"),
    parse=parse,
)
