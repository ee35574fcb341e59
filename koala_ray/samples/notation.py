"""The plain notation in which the sample texts are written, and the rows it is read into.

A block is a list of labelled fields, blocks are divided by a line of three dashes:

    YOU: A question, wrapped
    over two lines.
    BOT: A direct answer.
    | A second line of the answer.
    1. A list item.
    ---

Wrapped lines are joined by one space. A line that begins with "| ", "- " or a number and a dot stays a line
of its own; the bar itself is dropped.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_LABEL = re.compile(r"^([A-Z]+): (.*)$")
_ITEM = re.compile(r"^(\d+\.|-) ")


class Field(NamedTuple):
    """One labelled text of a block."""

    label: str
    text: str


class Question(NamedTuple):
    """One question with people's answers and the assistant's, as HC3 holds it."""

    text: str
    source: str
    human: tuple[str, ...]
    reply: str


class Instruction(NamedTuple):
    """One instruction, what it is about if anything, and the answer, as Alpaca holds it."""

    instruction: str
    input: str
    output: str


def blocks(text: str) -> list[list[Field]]:
    """Read every block of a text in the notation."""
    return [_fields(part) for part in re.split(r"(?m)^---$", text) if part.strip()]


def named(block: list[Field]) -> dict[str, str]:
    """Give the fields of a block in which every label stands once by their labels."""
    fields = dict(block)
    if len(fields) != len(block):
        raise ValueError(f"a label stands twice in the block that begins with {block[0].text!r}")
    return fields


def phrasings(rng: random.Random, options: Sequence[str]) -> Iterator[str]:
    """Give the options over and over in one drawn order, so that each is used equally often."""
    return itertools.cycle(rng.sample(options, len(options)))


def _fields(part: str) -> list[Field]:
    found: list[Field] = []
    for line in part.strip().splitlines():
        head = _LABEL.match(line)
        if head:
            found.append(Field(head.group(1), head.group(2)))
        elif not found:
            raise ValueError(f"a block begins without a label: {line!r}")
        else:
            label, text = found[-1]
            found[-1] = Field(label, _joined(text, line))
    return found


def _joined(text: str, line: str) -> str:
    if line.startswith("| "):
        return f"{text}\n{line[2:]}"
    if _ITEM.match(line):
        return f"{text}\n{line}"
    return f"{text} {line.strip()}"
