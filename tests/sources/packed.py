"""Rows in the forms of file that pack them: compressed lines and arrays, and Parquet."""

from __future__ import annotations

import gzip
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def compress(data: bytes, suffix: str) -> bytes:
    """The same bytes for the same data, as a file of this suffix holds them."""
    if suffix == ".gz":
        return gzip.compress(data, mtime=0)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


def parquet(values: list[dict[str, Any]], **options: Any) -> bytes:
    """A Parquet file of these rows; the options are the writer's."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(values), sink, **options)
    return sink.getvalue().to_pybytes()
