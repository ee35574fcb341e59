"""Tokenized dialogues as they arrive: their ids and masks go to files on this disk, so that memory stays bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from koala_ray.tokens.shards import Dialogues


class Scratch:
    """One split's dialogues: what is needed of each is kept, its ids and mask are written away."""

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = {column: folder / f"{name}.{column}" for column in ("ids", "learn")}
        self._files = {column: open(path, "wb") for column, path in self._paths.items()}  # noqa: SIM115
        self._columns: dict[str, list[Any]] = {name: [] for name in ("id", "group", "copies", "learnt", "lengths")}
        self.tokens = 0

    def add(self, table: pa.Table) -> None:
        """Take in dialogues, rows of :data:`koala_ray.tokens.worker.SCHEMA` without a filter."""
        table = table.combine_chunks()
        ids = table["ids"].combine_chunks()
        flat = ids.flatten().to_numpy()
        self._files["ids"].write(flat.tobytes())
        self._files["learn"].write(
            table["learn"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(bool).tobytes()
        )
        self._columns["lengths"].append(pc.list_value_length(ids).to_numpy(zero_copy_only=False))
        for name in ("copies", "learnt"):
            self._columns[name].append(table[name].to_numpy())
        self._columns["id"].append(table["id"].combine_chunks())
        self._columns["group"].append(table["group"].combine_chunks().dictionary_encode())
        self.tokens += len(flat)

    def dialogues(self) -> tuple[Dialogues, np.ndarray]:
        """All dialogues, and how often an epoch reads each."""
        for file in self._files.values():
            file.close()
        numbers = {
            name: np.concatenate([np.zeros(0, np.int64), *self._columns[name]]).astype(np.int64)
            for name in ("lengths", "copies", "learnt")
        }
        none = pa.array([], pa.string())
        names = pa.concat_arrays([none, *self._columns["id"]])
        groups = pa.concat_arrays([none.dictionary_encode(), *self._columns["group"]])
        starts = np.concatenate([[0], np.cumsum(numbers["lengths"])]).astype(np.int64)
        flat = {
            # An empty file can't be mapped.
            column: np.memmap(path, dtype, "r") if self.tokens else np.zeros(0, dtype)
            for (column, path), dtype in zip(self._paths.items(), (np.int32, np.bool_), strict=True)
        }
        return Dialogues(flat["ids"], flat["learn"], starts, numbers["learnt"], names, groups), numbers["copies"]
