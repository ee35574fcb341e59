"""What a source is, and what its readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from koala_ray.records import Marker, Role, Turn

Dialogue = tuple[Turn, ...]


class RowRejected(Exception):
    """A row that can't be learnt from; the reason goes to the ledger."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Found:
    """One dialogue that a raw row could give: the dialogue, or why it can't be learnt from."""

    side: str
    """Tells the dialogues of one raw row apart (``chosen``, ``chatgpt0``); empty where a row gives one."""
    dialogue: Dialogue | None
    reason: str = ""
    """Why there is no dialogue."""
    repairs: tuple[str, ...] = ()
    """What was mended to get it, for the ledger; each kind once."""


@dataclass(frozen=True)
class PublicFile:
    """A file that a source's publishers offer, and the name it gets below a data root."""

    url: str
    name: str
    """``SOURCE/FILE``, so that a fetched source is found by its usual names; a prompt set's file has one place."""
    sha256: str = ""
    """What it is known to be; empty where the address may bring something newer one day."""


@dataclass(frozen=True)
class Source:
    """A public data set: what it is, and how a raw row of it becomes dialogues."""

    name: str
    title: str
    licence: str
    citation: str
    home: str
    """The address where it is described."""
    published: str
    """The published counts, in words."""
    published_rows: int | None
    """The published count in the ledger's rows (dialogues, answers, sides) before curation."""
    published_kept: int | None
    """The published count after curation, where one was published."""
    files: tuple[PublicFile, ...]
    """What ``koala-ray fetch`` gets."""
    parse: Callable[[object, int], Iterator[Found]]
    """A raw JSON value and the data seed → its dialogues; :class:`RowRejected` where the whole row is unusable."""
    refused: Callable[[object], str | None] = lambda value: None
    """What a raw value is where it belongs to another data set by the same publishers, in words; else None."""
    group: Callable[[object], str | None] | None = None
    """What neighbouring raw rows share that are parts of one conversation. Such rows reach ``parse`` as one list."""
    optional: bool = False
    """Read only where a recipe names its files."""
    many_answers: bool = False
    """Several raw rows ask the same on purpose (comparisons): duplicates are judged with their answers."""

    @property
    def record(self) -> str:
        """Where below a data root it is recorded what was fetched."""
        return f"{self.name}/{RECORD}"

    @property
    def usual_names(self) -> tuple[str, ...]:
        """Globs by which its files are found where a recipe names none."""
        places = (f"{self.name}*", f"sources/{self.name}*", f"{self.name}/**", f"sources/{self.name}/**")
        return tuple(place + suffix for place in places for suffix in SUFFIXES)


RECORD = "FETCHED"
"""The name of a record of what was fetched. It is JSON, but no glob for raw files or prompts shall match it."""
JOINED = "joined to the part before"
"""The reason under which the ledger keeps the raw rows that went into an earlier one's dialogue."""
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst", ".parquet")
"""How raw files' names end, whatever the source."""


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


def single_turn(prompt: str, answer: str, marker: Marker = "positive") -> Dialogue:
    """A question and its answer, which is learnt."""
    if not prompt:
        raise RowRejected("empty question")
    if not answer:
        raise RowRejected("empty answer")
    return Turn("user", prompt), Turn("assistant", answer, marker, learn=True)


def alternate(messages: Iterable[tuple[Role, str]]) -> tuple[Dialogue, tuple[str, ...]]:
    """Messages as a dialogue that begins with the user, alternates, and ends with the assistant; and the repairs.

    Empty messages are dropped, a role's messages in a row are joined by a blank line, and what the assistant
    says before the first user turn or the user after the last answer is left out. Each answer is learnt.
    """
    joined: list[tuple[Role, list[str]]] = []
    repairs: dict[str, None] = {}  # in the order in which they were first needed
    for role, text in messages:
        if not text:
            repairs["empty turn dropped"] = None
        elif joined and joined[-1][0] == role:
            repairs["turns of one role joined"] = None
            joined[-1][1].append(text)
        elif joined or role == "user":
            joined.append((role, [text]))
        else:
            repairs["opening answer dropped"] = None
    if joined and joined[-1][0] == "user":
        repairs["closing question dropped"] = None
        joined.pop()
    if not joined:
        raise RowRejected("no exchange of a user and an assistant")
    texts = ((role, "\n\n".join(parts)) for role, parts in joined)
    turns = (Turn(role, text) if role == "user" else Turn(role, text, "positive", learn=True) for role, text in texts)
    return tuple(turns), tuple(repairs)


def check_text(dialogue: Dialogue) -> None:
    """Reject texts that are not Unicode: half characters, or bytes that were not UTF-8."""
    for turn in dialogue:
        try:
            turn.text.encode("utf-8")
        except UnicodeEncodeError:
            raise RowRejected("not valid UTF-8") from None
