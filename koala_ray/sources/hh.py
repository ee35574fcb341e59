"""Anthropic HH: JSON lines of ``chosen`` and ``rejected``, two whole dialogues that part somewhere.

A side is one text of ``\\n\\nHuman: …\\n\\nAssistant: …`` or, in converted copies, a list of ``role`` and ``content``.
Only the turn where the sides part is learnt: what they share would be learnt under both markers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from koala_ray.records import Marker, Role
from koala_ray.sources.base import Dialogue, Found, PublicFile, RowRejected, Source, alternate, record, text_field
from koala_ray.sources.comparison import NO_DIFFERENCE, SIDES

Messages = list[tuple[Role, str]]

TAG = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
"""A role's tag. Within a paragraph the same word is text: people quote dialogues and write scripts."""
ROLES: dict[str, Role | None] = {
    "Human": "user",
    "human": "user",
    "user": "user",
    "Assistant": "assistant",
    "assistant": "assistant",
    "system": None,  # a preamble that converters add: said by neither side
}
UNANSWERED = "\0"
"""Stands for the answer to a last question that has none, so that the sides can be compared up to it."""


def parse(value: object, seed: int) -> Iterator[Found]:
    """One pair → its two dialogues, each with one learnt turn, or why not."""
    row = record(value)
    if not any(side in row for side in SIDES):
        raise RowRejected("missing field: chosen")
    read: dict[str, tuple[Dialogue, tuple[str, ...]]] = {}
    reasons: dict[str, str] = {}
    for side in SIDES:
        try:
            read[side] = _read_side(row, side)
        except RowRejected as rejected:
            reasons[side] = rejected.reason
    if reasons:
        # Without the other side nobody can tell which of the answers was compared.
        yield from (Found(side, None, reasons.get(side, "the other side can't be read")) for side in SIDES)
        return
    parting, unusable = _parting(read["chosen"][0], read["rejected"][0])
    for side, marker in SIDES.items():
        dialogue, repairs = read[side]
        if dialogue[-1].text == UNANSWERED:
            yield Found(side, None, "empty answer")
        elif unusable:
            yield Found(side, None, unusable)
        else:
            yield Found(side, _learn_only(dialogue, parting, marker), repairs=repairs)


def _read_side(row: dict[str, object], side: str) -> tuple[Dialogue, tuple[str, ...]]:
    """A side as alternating turns and the repairs; a last question without an answer gets :data:`UNANSWERED`."""
    before: tuple[str, ...] = ()
    if isinstance(row.get(side), list):
        messages = _listed_messages(row[side])
    else:
        messages, before = tagged_messages(text_field(row, side))
    said = [(role, text) for role, text in messages if text]
    if said and said[-1][0] == "user":
        messages.append(("assistant", UNANSWERED))
    dialogue, repairs = alternate(messages)
    return dialogue, before + repairs


def tagged_messages(text: str) -> tuple[Messages, tuple[str, ...]]:
    """The messages of a text with role tags, in order and as they stand, empty ones too; and the repairs."""
    before, *tagged = TAG.split(text)
    if not tagged:
        raise RowRejected("no role tags")
    messages: Messages = []
    for name, said in zip(tagged[::2], tagged[1::2], strict=True):
        role = ROLES[name]
        assert role is not None
        messages.append((role, said.strip()))
    return messages, ("text before the first tag dropped",) if before.strip() else ()


def _listed_messages(items: object) -> Messages:
    assert isinstance(items, list)
    messages: Messages = []
    for item in items:
        name = text_field(record(item), "role")
        if name not in ROLES:
            raise RowRejected(f"unknown role: {name[:40]}")
        role = ROLES[name]
        if role is not None:
            messages.append((role, text_field(item, "content", optional=True)))
    return messages


def _parting(chosen: Dialogue, rejected: Dialogue) -> tuple[int, str]:
    """The place of the first turn in which two dialogues differ, and why it can't be learnt, if so.

    A pair compares two answers to one question. Where the sides part at a user's turn, the marker would tell
    which question was the better one; so such pairs are left out, and those where one side merely goes on.
    """
    shared = zip(chosen, rejected, strict=False)
    place = next((place for place, (one, other) in enumerate(shared) if one.text != other.text), None)
    if place is None:
        place = min(len(chosen), len(rejected))
        return place, NO_DIFFERENCE if len(chosen) == len(rejected) else "one side is the beginning of the other"
    return place, "" if chosen[place].role == "assistant" else "the sides part at a user's turn"


def _learn_only(dialogue: Dialogue, place: int, marker: Marker) -> Dialogue:
    rest = (replace(turn, marker="none", learn=False) for turn in dialogue)
    return tuple(replace(turn, marker=marker, learn=True) if at == place else turn for at, turn in enumerate(rest))


def refused(value: object) -> str | None:
    """What a row of the publishers' red-team data is; None for a pair."""
    if isinstance(value, dict) and "transcript" in value and not any(side in value for side in SIDES):
        return "red-team transcripts, which hold no preference"
    return None


ADDRESS = "https://huggingface.co/datasets/Anthropic/hh-rlhf"
PARTS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")

SOURCE = Source(
    name="hh",
    title="Anthropic HH",
    licence="MIT",
    citation="Bai et al., Training a Helpful and Harmless Assistant with Reinforcement Learning from Human "
    "Feedback, 2022",
    home=ADDRESS,
    published="about 160K pairs, so 320K dialogues (the train files)",
    published_rows=320_000,
    published_kept=None,
    files=tuple(
        # The publishers' test files are left to those who compare reward models on them.
        PublicFile(f"{ADDRESS}/resolve/main/{part}/train.jsonl.gz", f"hh/{part}-train.jsonl.gz")
        for part in PARTS
    ),
    parse=parse,
    refused=refused,
    many_answers=True,
)
