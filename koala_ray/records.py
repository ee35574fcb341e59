"""The record of each stage and its Arrow schema: example, rejected row, packed row, answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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
    """What a model answered to one turn of a prompt."""

    id: str
    """The prompt's."""
    prompt: str
    """What the user said in this turn."""
    answer: str
    answer_ids: list[int]
    prompt_tokens: int
    """All ids before the answer, those of earlier turns too."""
    tokens: int
    """Tokens that were generated, the end-of-sequence token among them."""
    finish: Literal["stop", "length", "failed"]
    """``stop``: ended by the end-of-sequence token or a stop string; ``length``: cut at ``max_tokens``; ``failed``:
    see error."""
    model: str
    """As it was asked for."""
    error: str = ""
    turn: int = 0
    """The turn that was answered."""
    index: int = 0
    """Which of the several answers to one prompt this is."""
    seed: int = 0
    """The answer's own."""
    seconds: float = 0.0
    """From when the engine had the prompt to the last token; other answers were generated beside it."""
    model_hash: str = ""
    """sha256 over the model's files."""
    step: int | None = None
    """Steps of training after which the model's weights were taken, where it is a run's."""
    prompt_set: str = ""
    prompt_set_hash: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)
    """The settings that answers depend on; see :func:`koala_ray.generate.sampling.as_settings`."""
    engine: str = ""
    """Its name and version."""


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
