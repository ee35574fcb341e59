"""The record of each stage and its Arrow schema: example, rejected row, packed row, answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

Role = Literal["user", "assistant"]
Marker = Literal["none", "positive", "negative"]
Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class Turn:
    """One message of a dialogue."""

    role: Role
    text: str
    marker: Marker = "none"
    """For an assistant's turn: the marker that opens it. ``none`` renders as positive."""
    learn: bool = False
    """Whether the loss is taken on this turn (and on its end-of-sequence token)."""


@dataclass(frozen=True)
class Example:
    """One dialogue to learn from, as a reader gives it."""

    id: str
    """Stable: source, file below the data root, line and side, e.g. ``hc3/sources/hc3.jsonl#12/chatgpt0``."""
    source: str
    turns: tuple[Turn, ...]
    pair: str
    """Examples with the same pair id (the sides of a preference, the answers to one question) share a split."""
    file: str = ""
    line: int = 0
    split: Split = "train"
    repairs: tuple[str, ...] = ()
    """What was mended to get it, for the ledger; not stored."""

    def as_row(self) -> dict[str, Any]:
        """The example as a row of :func:`example_schema`."""
        row = asdict(self)
        del row["repairs"]
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Example:
        """The example of a row of :func:`example_schema`."""
        return cls(**{**row, "turns": tuple(Turn(**turn) for turn in row["turns"])})


@dataclass(frozen=True)
class Rejected:
    """A row that is not learnt from: where it stood, why it was left out, and how it began."""

    source: str
    file: str
    line: int
    filter: str
    """Which of :data:`koala_ray.curate.ledger.FILTERS` left it out."""
    reason: str
    excerpt: str = ""


@dataclass(frozen=True)
class PackedRow:
    """Whole dialogues laid end to end, at most ``context`` tokens in all."""

    gidx: int
    """The row's place in the total order over all epochs."""
    epoch: int
    input_ids: list[int]
    learn: list[bool]
    """For each token whether it is a target of the loss."""
    lengths: list[int]
    """The dialogues' lengths in tokens, in order; they sum to ``len(input_ids)``."""
    examples: list[str]
    """The dialogues' example ids."""
    groups: list[str]
    """The dialogues' sources and markers, which losses are told apart by: ``hh/negative``, ``sharegpt/none``."""
    learnt: int
    """Learnt tokens in the row."""


@dataclass(frozen=True)
class Answer:
    """What a model answered to one prompt of a set."""

    id: str
    prompt: str
    answer: str
    answer_ids: list[int]
    prompt_tokens: int
    tokens: int
    finish: Literal["stop", "length", "failed"]
    """``stop``: ended by the end-of-sequence token; ``length``: cut at ``max_tokens``; ``failed``: see error."""
    model: str
    error: str = ""


@cache
def example_schema() -> pa.Schema:
    """Arrow's schema of :class:`Example`."""
    import pyarrow as pa

    turn = pa.struct([("role", pa.string()), ("text", pa.string()), ("marker", pa.string()), ("learn", pa.bool_())])
    return pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("turns", pa.list_(turn)),
            ("pair", pa.string()),
            ("file", pa.string()),
            ("line", pa.int64()),
            ("split", pa.string()),
        ]
    )


@cache
def rejected_schema() -> pa.Schema:
    """Arrow's schema of :class:`Rejected`."""
    import pyarrow as pa

    names = ("source", "file", "line", "filter", "reason", "excerpt")
    return pa.schema([(name, pa.int64() if name == "line" else pa.string()) for name in names])


@cache
def packed_schema() -> pa.Schema:
    """Arrow's schema of :class:`PackedRow`."""
    import pyarrow as pa

    return pa.schema(
        [
            ("gidx", pa.int64()),
            ("epoch", pa.int32()),
            ("input_ids", pa.list_(pa.int32())),
            ("learn", pa.list_(pa.bool_())),
            ("lengths", pa.list_(pa.int32())),
            ("examples", pa.list_(pa.string())),
            ("groups", pa.list_(pa.string())),
            ("learnt", pa.int32()),
        ]
    )
