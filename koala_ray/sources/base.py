"""What a source is, and what its readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from koala_ray.records import Role, Turn

Dialogue = tuple[Turn, ...]


class RowRejected(Exception):
    """A row that can't be learnt from; the reason goes to the ledger."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


Found = tuple[str, "Dialogue | RowRejected"]
"""A side's name (empty where a row has one) and its dialogue, or why this side can't be learnt from."""


@dataclass(frozen=True)
class Source:
    """A public data set: what it is, and how a raw row of it becomes dialogues."""

    name: str
    title: str
    licence: str
    published: str
    """The published counts, in words, which the ledger stands beside."""
    citation: str
    suffixes: tuple[str, ...]
    """How its files' names end."""
    parse: Callable[[object], Iterator[Found]]
    """A raw JSON value → its dialogues; raises :class:`RowRejected` where the whole row is unusable."""

    @property
    def usual_names(self) -> tuple[str, ...]:
        """Globs by which its files are found where a recipe names none."""
        places = (f"{self.name}*", f"sources/{self.name}*", f"{self.name}/**")
        return tuple(place + suffix for place in places for suffix in self.suffixes)


def record(value: object) -> dict[str, object]:
    """The value as a JSON object, or the row is rejected."""
    if not isinstance(value, dict):
        raise RowRejected("not a JSON object")
    return value


def text_field(row: dict[str, object], name: str, *, optional: bool = False) -> str:
    """A text field, stripped of outer white space, or the row is rejected."""
    value = row.get(name)
    if value is None and not optional:
        raise RowRejected(f"missing field: {name}")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowRejected(f"not a text: {name}")
    return value.strip()


def single_turn(prompt: str, answer: str) -> Dialogue:
    """A question and its answer, which is learnt."""
    if not prompt:
        raise RowRejected("empty question")
    if not answer:
        raise RowRejected("empty answer")
    return Turn("user", prompt), Turn("assistant", answer, "positive", learn=True)


def alternate(messages: Iterable[tuple[Role, str]]) -> Dialogue:
    """Messages as a dialogue that begins with the user, alternates, and ends with the assistant.

    Empty messages are dropped, a role's messages in a row are joined by a blank line, and what the assistant
    says before the first user turn or the user after the last answer is left out. Each answer is learnt.
    """
    joined: list[tuple[Role, str]] = []
    for role, text in messages:
        if not text:
            continue
        if joined and joined[-1][0] == role:
            joined[-1] = (role, f"{joined[-1][1]}\n\n{text}")
        elif joined or role == "user":
            joined.append((role, text))
    if joined and joined[-1][0] == "user":
        joined.pop()
    if not joined:
        raise RowRejected("no exchange of a user and an assistant")
    return tuple(
        Turn(role, text) if role == "user" else Turn(role, text, "positive", learn=True) for role, text in joined
    )


def check_text(dialogue: Dialogue) -> None:
    """Reject texts that are not Unicode: half characters, or bytes that were not UTF-8."""
    for turn in dialogue:
        try:
            turn.text.encode("utf-8")
        except UnicodeEncodeError:
            raise RowRejected("not valid UTF-8") from None
