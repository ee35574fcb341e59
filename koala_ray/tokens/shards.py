"""Token shards: packed rows in Parquet, in the total order of all epochs, found by their global index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from koala_ray import storage
from koala_ray.progress import Progress
from koala_ray.records import PackedRow, packed_schema
from koala_ray.tables import read_table, write_table
from koala_ray.tokens.pack import epoch_order

ROWS_PER_SHARD = 2048
ROWS_PER_GROUP = 64
"""Rows that are read together: few, so that a resumed run reads little before its first row."""
PLAN = "plan.parquet"
PLAN_SCHEMA = pa.schema([("gidx", pa.int64()), ("epoch", pa.int32()), ("tokens", pa.int32()), ("learnt", pa.int32())])


@dataclass(frozen=True)
class Dialogues:
    """Tokenized dialogues laid end to end: dialogue i is ``[starts[i], starts[i + 1])`` of the flat arrays."""

    ids: np.ndarray
    """int32; may be a file mapped into memory, as may ``learn``."""
    learn: np.ndarray
    starts: np.ndarray
    learnt: np.ndarray
    """Learnt tokens of each dialogue."""
    names: pa.Array
    """Each dialogue's example id."""
    groups: pa.DictionaryArray
    """Each dialogue's source and marker."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each dialogue."""
        return np.diff(self.starts)


def write_shards(folder: str, dialogues: Dialogues, packs: Sequence[Sequence[int]], epochs: int, seed: int) -> int:
    """Write the packed rows of all epochs in their total order and return how many there are.

    Row ``epoch · len(packs) + place`` is the pack that :func:`epoch_order` puts there. Beside the shards lies
    ``plan.parquet``: epoch, tokens and learnt tokens of each row, so that a run is planned without its ids.
    """
    order = [(epoch, index) for epoch in range(epochs) for index in epoch_order(len(packs), seed, epoch)]
    lengths, starts = dialogues.lengths.tolist(), dialogues.starts.tolist()
    plans = []
    with Progress("pack", len(order), "rows") as bar:
        for shard, first in enumerate(range(0, len(order), ROWS_PER_SHARD)):
            chosen = order[first : first + ROWS_PER_SHARD]
            rows = [packs[index] for _, index in chosen]
            members = [member for row in rows for member in row]
            per_row = np.cumsum([0, *(len(row) for row in rows)])
            spans = [slice(starts[member], starts[member + 1]) for member in members]
            sizes = np.array([lengths[member] for member in members], dtype=np.int32)
            tokens = np.add.reduceat(sizes, per_row[:-1])
            offsets = np.concatenate([[0], np.cumsum(tokens)])
            columns = {
                "gidx": pa.array(range(first, first + len(chosen)), pa.int64()),
                "epoch": pa.array([epoch for epoch, _ in chosen], pa.int32()),
                "input_ids": _lists(offsets, np.concatenate([dialogues.ids[span] for span in spans])),
                "learn": _lists(offsets, np.concatenate([dialogues.learn[span] for span in spans])),
                "lengths": _lists(per_row, sizes),
                "examples": _lists(per_row, dialogues.names.take(pa.array(members))),
                "groups": _lists(per_row, dialogues.groups.take(pa.array(members)).dictionary_decode()),
                "learnt": pa.array(np.add.reduceat(dialogues.learnt[members], per_row[:-1]).astype(np.int32)),
            }
            table = pa.table(columns, schema=packed_schema())
            write_table(storage.join(folder, f"shard-{shard:05d}.parquet"), table, ROWS_PER_GROUP)
            plan = {"gidx": columns["gidx"], "epoch": columns["epoch"], "learnt": columns["learnt"]}
            plans.append(pa.table({**plan, "tokens": pa.array(tokens, pa.int32())}).select(PLAN_SCHEMA.names))
            bar.update(first + len(chosen))
    joined = pa.concat_tables(plans) if plans else PLAN_SCHEMA.empty_table()
    write_table(storage.join(folder, PLAN), joined.combine_chunks())
    return len(order)


def _lists(offsets: np.ndarray, values: Any) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


@dataclass(frozen=True)
class Plan:
    """What is known of each packed row without reading its ids; arrays indexed by the global index."""

    epoch: np.ndarray
    tokens: np.ndarray
    learnt: np.ndarray

    @property
    def rows(self) -> int:
        """Packed rows over all epochs."""
        return len(self.learnt)

    def steps(self, batch_rows: int) -> int:
        """Optimizer steps over all epochs; the last may be padded."""
        return -(-self.rows // batch_rows)

    def per_step(self, what: np.ndarray, batch_rows: int) -> np.ndarray:
        """Sums over each global batch of a per-row array: learnt tokens, known before training, or tokens."""
        padded = np.zeros(self.steps(batch_rows) * batch_rows, dtype=np.int64)
        padded[: self.rows] = what
        return padded.reshape(-1, batch_rows).sum(axis=1)


def read_plan(folder: str) -> Plan:
    """The plan beside a folder's shards."""
    table = read_table(storage.join(folder, PLAN))
    return Plan(*(table[name].to_numpy() for name in ("epoch", "tokens", "learnt")))


class ShardReader:
    """Packed rows by their global index. Keeps the last row group: neighbours cost one read."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._file: tuple[int, pq.ParquetFile] | None = None
        self._group: tuple[int, pa.Table] | None = None

    def table(self, indices: Sequence[int]) -> pa.Table:
        """The packed rows of global indices, in the order asked for, as a table of the packed schema.

        Raises:
            ValueError: a shard holds another row in that place.
        """
        pieces = [self._one(gidx) for gidx in indices]
        table = pa.concat_tables(pieces) if pieces else packed_schema().empty_table()
        if table["gidx"].to_pylist() != list(indices):
            raise ValueError(f"{self.folder}: other rows stand where rows {list(indices)[:8]}… belong")
        return table

    def row(self, gidx: int) -> PackedRow:
        """One packed row as a record."""
        return PackedRow(**self.table([gidx]).to_pylist()[0])

    def _one(self, gidx: int) -> pa.Table:
        group, place = divmod(gidx, ROWS_PER_GROUP)
        if self._group is None or self._group[0] != group:
            shard, within = divmod(group, ROWS_PER_SHARD // ROWS_PER_GROUP)
            self._group = group, self._open(shard).read_row_group(within)
        return self._group[1].slice(place, 1)

    def _open(self, shard: int) -> pq.ParquetFile:
        if self._file is None or self._file[0] != shard:
            self._file = shard, _shard_file(storage.join(self.folder, f"shard-{shard:05d}.parquet"))
        return self._file[1]


def _shard_file(uri: str) -> pq.ParquetFile:
    filesystem, path = storage.arrow_filesystem(uri)
    return pq.ParquetFile(path, filesystem=filesystem)


def read_groups(folder: str) -> list[list[str]]:
    """For each packed row of a folder, in order, its dialogues' sources and markers; reads nothing else."""
    shards = [_shard_file(file.uri) for file in storage.list_files(folder, ["shard-*.parquet"])]
    return [row for shard in shards for row in shard.read(["groups"])["groups"].to_pylist()]


def read_all(folder: str) -> Iterator[PackedRow]:
    """All packed rows of a folder in order."""
    reader = ShardReader(folder)
    return (reader.row(gidx) for gidx in range(read_plan(folder).rows))
