"""Parquet whose bytes depend on the rows alone: not on the number of CPUs, blocks or tasks that made them.

And dialogues in Arrow columns: by whole columns, since Arrow's own way, row by row through dictionaries, takes several
times as long as what is done with the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from koala_ray import storage
from koala_ray.records import Example, Turn, example_schema

ROWS_PER_PART = 8192
ROWS_PER_GROUP = 2048
"""Rows that are read together: a task's worth."""


def write_table(uri: str, table: pa.Table, row_group_size: int = ROWS_PER_GROUP) -> None:
    """Write one Parquet file."""
    with storage.open_write(uri) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=row_group_size, use_dictionary=False)


def read_table(uri: str) -> pa.Table:
    """Read one Parquet file."""
    with storage.open_read(uri) as file:
        return pq.read_table(file)


def read_group(uri: str, group: int) -> pa.Table:
    """Read one row group of a Parquet file."""
    with storage.open_read(uri) as file:
        return pq.ParquetFile(file).read_row_group(group)


def groups_of(rows: int) -> list[tuple[int, int]]:
    """The (part, row group) pairs, in order, that a :class:`PartWriter` makes of so many rows."""
    per_part = ROWS_PER_PART // ROWS_PER_GROUP
    return [divmod(group, per_part) for group in range(-(-rows // ROWS_PER_GROUP))]


class PartWriter:
    """A stream of tables → ``PREFIX-00000.parquet``, …, each of exactly so many rows but the last."""

    def __init__(self, folder: str, prefix: str, schema: pa.Schema, rows_per_part: int = ROWS_PER_PART) -> None:
        self.folder, self.prefix, self.schema = folder, prefix, schema
        self.rows_per_part = rows_per_part
        self.rows = 0
        self.parts = 0
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, table: pa.Table) -> None:
        """Add rows in their order; columns beyond the schema are left out."""
        table = table.select(self.schema.names).cast(self.schema)
        self.rows += table.num_rows
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        if self._waiting_rows >= self.rows_per_part:
            joined = pa.concat_tables(self._waiting)
            while joined.num_rows >= self.rows_per_part:
                self._write(joined.slice(0, self.rows_per_part))
                joined = joined.slice(self.rows_per_part)
            self._waiting, self._waiting_rows = [joined], joined.num_rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._waiting_rows:
            self._write(pa.concat_tables(self._waiting))

    def _write(self, table: pa.Table) -> None:
        # combine_chunks: how the rows arrived must not show in the bytes.
        name = f"{self.prefix}-{self.parts:05d}.parquet"
        write_table(storage.join(self.folder, name), table.combine_chunks())
        self.parts += 1


def part_files(folder: str, prefix: str) -> list[str]:
    """The URIs of a writer's parts in order."""
    return [file.uri for file in storage.list_files(folder, [f"{prefix}-*.parquet"])]


def turns_column(dialogues: Sequence[Sequence[Turn]]) -> pa.ListArray:
    """Dialogues as the ``turns`` column of :func:`koala_ray.records.example_schema`; an empty one is null."""
    kind = example_schema().field("turns").type
    flat = list(chain.from_iterable(dialogues))
    fields = [
        pa.array([turn.role for turn in flat], pa.string()),
        pa.array([turn.text for turn in flat], pa.string()),
        pa.array([turn.marker for turn in flat], pa.string()),
        pa.array([turn.learn for turn in flat], pa.bool_()),
    ]
    offsets, end = [], 0
    for turns in dialogues:
        offsets.append(end if turns else None)
        end += len(turns)
    structs = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array([*offsets, end], pa.int32()), structs, type=kind)


def dialogues_of(column: pa.ChunkedArray) -> list[tuple[Turn, ...]]:
    """The dialogues of a ``turns`` column without nulls."""
    lists = column.combine_chunks()
    flat = lists.flatten()
    turns = tuple(map(Turn, *(flat.field(place).to_pylist() for place in range(4))))
    ends = lists.value_lengths().to_numpy(zero_copy_only=False).cumsum().tolist()
    return [turns[begin:end] for begin, end in pairwise([0, *ends])]


def read_examples(table: pa.Table) -> list[Example]:
    """The examples of a table of :func:`koala_ray.records.example_schema`."""
    names = ("id", "source", "pair", "file", "line", "split")
    columns = [table[name].to_pylist() for name in names]
    return [
        Example(turns=turns, **dict(zip(names, values, strict=True)))
        for turns, *values in zip(dialogues_of(table["turns"]), *columns, strict=True)
    ]
