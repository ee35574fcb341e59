"""Who the model says it is: rows of your own, off unless a recipe names them.

JSON lines of a question and an answer, or of ``conversations`` as ShareGPT's. Koala's scripts mixed in some
thousand of them. The same question may stand there several times with different answers.
"""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray.sources import sharegpt
from koala_ray.sources.base import Found, Source, record, single_turn, text_field

QUESTIONS = ("question", "instruction", "prompt")
ANSWERS = ("answer", "output", "response")


def parse(value: object, seed: int) -> Iterator[Found]:
    """One row → one dialogue."""
    row = record(value)
    if row.get("conversations") is not None:
        yield from sharegpt.parse(row, seed)
        return
    yield Found("", single_turn(_first(row, QUESTIONS), _first(row, ANSWERS)))


def _first(row: dict[str, object], names: tuple[str, ...]) -> str:
    """The text of the first of these fields that the row has."""
    present = next((name for name in names if row.get(name) is not None), names[0])
    return text_field(row, present)


SOURCE = Source(
    name="identity",
    title="Identity questions and answers",
    licence="your own",
    citation="Koala: A Dialogue Model for Academic Research, BAIR blog, April 2023",
    home="",
    published="none: optional, and off unless a recipe names it",
    published_rows=None,
    published_kept=None,
    files=(),
    parse=parse,
    optional=True,
    many_answers=True,
)
