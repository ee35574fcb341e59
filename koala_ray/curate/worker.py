"""What Ray Data's tasks do: split raw files into raw rows, and turn raw rows into examples that pass the filters.

Splitting is cheap and goes through a file once; parsing and filtering is the work, and goes on in parallel. A row's
verdict depends on the row alone here. What depends on earlier rows (duplicates) is decided later, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from koala_ray.curate.decontaminate import Contamination
from koala_ray.curate.duplicates import row_key
from koala_ray.curate.keywords import Keywords
from koala_ray.curate.language import English
from koala_ray.curate.near_duplicates import signature
from koala_ray.curate.repair import repair
from koala_ray.curate.split import split_of
from koala_ray.records import Example, Rejected, Turn, example_schema
from koala_ray.sources.base import RowRejected
from koala_ray.sources.raw import RawRow, read_rows
from koala_ray.sources.registry import SOURCES, examples
from koala_ray.tables import turns_column

ROWS_PER_BLOCK, BYTES_PER_BLOCK = 2048, 4 << 20
"""A block of raw rows is closed at either: small enough to spread over CPUs, large enough to be worth a task."""
EXCERPT = 200
RAW_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("place", pa.int64()),
        ("parts", pa.int64()),
        ("data", pa.large_binary()),
        ("reason", pa.string()),
        ("excerpt", pa.string()),
    ]
)
CURATED_SCHEMA = pa.schema(
    [
        *example_schema(),
        ("filter", pa.string()),
        ("reason", pa.string()),
        ("excerpt", pa.string()),
        ("repairs", pa.list_(pa.string())),
        ("key", pa.binary()),
        ("signature", pa.binary()),
        ("hits", pa.list_(pa.int32())),
    ]
)
"""An example, or, where ``filter`` is set, a rejected row."""


@dataclass(frozen=True)
class FilterSettings:
    """What the tasks need to know of a recipe."""

    heldout: float
    seed: int
    repair: bool
    keywords: tuple[str, ...]
    keywords_in: tuple[str, ...]
    english: bool
    near_duplicates: bool
    drop_contaminated: bool
    prompts: tuple[str, ...]
    """Every turn of all prompt sets' prompts, one set after the other."""
    bleu: float


def split_file(task: dict[str, Any]) -> Iterator[pa.Table]:
    """One raw file → its raw rows and faults in order, in small tables of :data:`RAW_SCHEMA`."""
    source, uri, relative = (str(task[name][0]) for name in ("source", "uri", "relative"))
    rows: list[tuple[Any, ...]] = []
    size = 0
    for item in read_rows(uri, SOURCES[source].group):
        if isinstance(item, RawRow):
            rows.append((source, relative, item.line, item.place, item.parts, item.data, None, None))
            size += len(item.data)
        else:
            rows.append((source, relative, item.line, 1, 1, None, item.reason, item.excerpt))
        if len(rows) == ROWS_PER_BLOCK or size >= BYTES_PER_BLOCK:
            yield _raw_table(rows)
            rows, size = [], 0
    yield _raw_table(rows)


def _raw_table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in RAW_SCHEMA)
    return pa.table(
        [pa.array(column, kind.type) for column, kind in zip(columns, RAW_SCHEMA, strict=True)], schema=RAW_SCHEMA
    )


def curate_rows(table: pa.Table, settings: FilterSettings) -> pa.Table:
    """Raw rows → examples and rejected rows, in order, as a table of :data:`CURATED_SCHEMA`."""
    filters = _filters(settings)
    out: dict[str, list[Any]] = {name: [] for name in CURATED_SCHEMA.names}
    columns = [table[name].to_pylist() for name in RAW_SCHEMA.names]
    for source, file, line, place, parts, data, reason, excerpt in zip(*columns, strict=True):
        if data is None:
            _put_rejected(out, Rejected(source, file, line, "read", reason, excerpt))
            continue
        filters.put_row(out, source, examples(source, file, RawRow(line, place, data, parts), settings.seed))
    return pa.table(out | {"turns": turns_column(out["turns"])}, schema=CURATED_SCHEMA)


@lru_cache(maxsize=1)
def _filters(settings: FilterSettings) -> _Filters:
    """The filters of a recipe, built once in each of Ray's processes."""
    return _Filters(settings)


class _Filters:
    """All filters that judge a row by itself, in the ledger's order."""

    def __init__(self, settings: FilterSettings) -> None:
        self.settings = settings
        self.keywords = Keywords(settings.keywords)
        self.english = English() if settings.english else None
        self.contamination = Contamination(settings.prompts, settings.bleu) if settings.prompts else None

    def put_row(self, out: dict[str, list[Any]], source: str, found: Sequence[Example | Rejected]) -> None:
        """Judge the dialogues of one raw row."""
        mended: list[Example | Rejected] = [item if isinstance(item, Rejected) else self._mend(item) for item in found]
        dialogues = [item.turns for item in mended if isinstance(item, Example)]
        # The row as a whole decides on its split and on what it is a duplicate of: its sides must not part there.
        key = row_key(dialogues, SOURCES[source].many_answers) if dialogues else b""
        split = split_of(dialogues[0][0].text, self.settings.heldout, self.settings.seed) if dialogues else "train"
        judged: dict[tuple[str, ...], tuple[str, str, list[int]]] = {}  # the sides mostly share the user's turns
        for item in mended:
            if isinstance(item, Rejected):
                _put_rejected(out, item)
                continue
            asked = tuple(turn.text for turn in item.turns if turn.role == "user")
            if asked not in judged:
                judged[asked] = self._judge_asked(item.turns, asked)
            by, reason, hits = judged[asked]
            if source in self.settings.keywords_in and (said := self.keywords.reason(item.turns)):
                by, reason, hits = "keywords", said, []
            if by:
                _put_rejected(out, Rejected(source, item.file, item.line, by, reason, item.turns[0].text[:EXCERPT]))
                out["hits"][-1] = hits
                continue
            _put_example(out, item, split)
            out["key"][-1] = key
            out["hits"][-1] = hits
            out["signature"][-1] = signature(item.turns) if self.settings.near_duplicates else None

    def _mend(self, example: Example) -> Example | Rejected:
        if not self.settings.repair:
            return example
        try:
            turns, repairs = repair(example.turns)
        except RowRejected as error:
            excerpt = example.turns[0].text[:EXCERPT]
            return Rejected(example.source, example.file, example.line, "repair", error.reason, excerpt)
        if not repairs:
            return example
        kinds = tuple(dict.fromkeys(example.repairs + repairs))
        return Example(example.id, example.source, turns, example.pair, example.file, example.line, repairs=kinds)

    def _judge_asked(self, turns: Sequence[Turn], asked: tuple[str, ...]) -> tuple[str, str, list[int]]:
        """What the user's turns alone decide: filter and reason, both empty for a good row, and prompts hit."""
        if self.english and (reason := self.english.reason(turns)):
            return "language", reason, []
        hits = sorted({hit for text in asked for hit in self.contamination.hits(text)}) if self.contamination else []
        if hits and self.settings.drop_contaminated:
            return "decontaminate", "too close to an evaluation prompt", hits
        return "", "", hits


def _put_example(out: dict[str, list[Any]], example: Example, split: str) -> None:
    values = vars(example) | {"split": split, "repairs": list(example.repairs)}
    for name, column in out.items():
        column.append(values.get(name))


def _put_rejected(out: dict[str, list[Any]], rejected: Rejected) -> None:
    values = vars(rejected) | {"turns": ()}
    for name, column in out.items():
        column.append(values.get(name))
