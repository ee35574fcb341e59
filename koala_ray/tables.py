"""Parquet whose bytes depend on the rows alone: not on the number of CPUs, blocks or tasks that made them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from koala_ray import storage

ROWS_PER_PART = 1024


def write_table(uri: str, table: pa.Table, row_group_size: int = ROWS_PER_PART) -> None:
    """Write one Parquet file."""
    with storage.open_write(uri) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=row_group_size, use_dictionary=False)


def read_table(uri: str) -> pa.Table:
    """Read one Parquet file."""
    with storage.open_read(uri) as file:
        return pq.read_table(file)


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
        write_table(storage.join(self.folder, name), table.combine_chunks(), self.rows_per_part)
        self.parts += 1


def part_files(folder: str, prefix: str) -> list[str]:
    """The URIs of a writer's parts in order."""
    return [file.uri for file in storage.list_files(folder, [f"{prefix}-*.parquet"])]
