"""The token shards through Ray Data, in the pack plan's order: step s reads rows [s·B, (s+1)·B), whoever reads.

The layout says which global indices each worker reads at each step; Ray Data's read tasks turn each block of
indices into packed rows. Nothing depends on arrival order, and skipping to a step costs nothing. Each worker
checks that the rows it got are those that it should have got.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from koala_ray.records import packed_schema
from koala_ray.tokens.shards import ShardReader, read_plan

STEPS_PER_BLOCK = 8
"""Steps whose rows one task reads for one worker: fewer, larger tasks, and a resumed run begins anywhere."""


def rows_of(step: int, rank: int, workers: int, batch_rows: int) -> range:
    """The global indices that a worker reads at a step."""
    share = batch_rows // workers
    first = step * batch_rows + rank * share
    return range(first, first + share)


def layout(first_step: int, last_step: int, rank: int, workers: int, batch_rows: int) -> Iterator[list[int]]:
    """A worker's blocks of global indices: the rows of a few steps each."""
    for group in range(first_step, last_step, STEPS_PER_BLOCK):
        steps = range(group, min(group + STEPS_PER_BLOCK, last_step))
        yield [gidx for step in steps for gidx in rows_of(step, rank, workers, batch_rows)]


def read_rows(folder: str, rows: int, wanted: Sequence[int]) -> pa.Table:
    """Packed rows by their global indices.

    Args:
        folder: the shards' folder.
        rows: how many rows the plan has; an index beyond them gives a row of weight zero, without tokens.
        wanted: the indices, ascending.
    """
    real = [gidx for gidx in wanted if gidx < rows]
    table = ShardReader(folder).table(real)
    if len(real) == len(wanted):
        return table
    lists: dict[str, Any] = {name: [] for name in ("input_ids", "learn", "lengths", "examples", "groups")}
    empty = {**lists, "learnt": 0, "epoch": -1}
    padding = [{"gidx": gidx, **empty} for gidx in wanted if gidx >= rows]
    return pa.concat_tables([table, pa.Table.from_pylist(padding, schema=packed_schema())])


class PlanSource(Datasource):
    """Ray Data's view of a layout: one read task, and one block, for each block of global indices."""

    def __init__(self, folder: str, rows: int, blocks: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._folder, self._rows, self._blocks = folder, rows, blocks

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: nothing is sized by it, since the blocks are given."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """The read tasks, in the layout's order."""
        return [self._task(block) for block in self._blocks]

    def _task(self, block: Sequence[int]) -> ReadTask:
        folder, rows = self._folder, self._rows
        metadata = BlockMetadata(num_rows=len(block), size_bytes=None, input_files=None, exec_stats=None)
        return ReadTask(lambda: [read_rows(folder, rows, block)], metadata, packed_schema())


def batches(
    folder: str, first_step: int, last_step: int, rank: int, workers: int, batch_rows: int
) -> Iterator[tuple[int, pa.Table]]:
    """Each step with the rows that this worker reads for it, read ahead by a task of Ray Data.

    The first rows are read right here: the process of Ray's task takes seconds to start, in which training can go on.

    Each worker has a pipeline of its own and begins it where the run goes on, which only a worker knows: it is the
    workers who find out which checkpoint is whole. Ray Train's splitter, which would feed all of them from one
    pipeline, is set up before that, and gives a row to whoever has had the fewest.

    Args:
        folder: the shards' folder.
        first_step: where the run goes on.
        last_step: the step before which it ends.
        rank: the worker.
        workers: how many read.
        batch_rows: packed rows in a global batch.
    """
    rows, later = read_plan(folder).rows, min(first_step + STEPS_PER_BLOCK, last_step)
    share = batch_rows // workers
    table = read_rows(folder, rows, next(layout(first_step, later, rank, workers, batch_rows)))
    first = (table.slice(start, share) for start in range(0, table.num_rows, share))
    blocks = list(layout(later, last_step, rank, workers, batch_rows))
    if not blocks:
        return checked(first, first_step, rank, workers, batch_rows)
    # The workers hold all CPUs: a task that asked for one (as those behind from_arrow and from_items do, too)
    # would wait for ever. And as it asks for none, Ray would start all of them at once, each in a process of its own.
    dataset = ray.data.read_datasource(
        PlanSource(folder, rows, blocks),
        num_cpus=0,
        concurrency=1,
        override_num_blocks=len(blocks),
    )
    dataset.context.execution_options.preserve_order = True
    found = dataset.iter_batches(batch_size=share, batch_format="pyarrow", prefetch_batches=2)
    return checked(chain(first, begun(iter(found))), first_step, rank, workers, batch_rows)


def begun(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same tables, the first of which is fetched in the background from now on."""
    pool = ThreadPoolExecutor(1)
    first = pool.submit(next, tables)
    pool.shutdown(wait=False)

    def rest() -> Iterator[pa.Table]:
        yield first.result()
        yield from tables

    return rest()


def checked(
    tables: Iterable[pa.Table], first_step: int, rank: int, workers: int, batch_rows: int
) -> Iterator[tuple[int, pa.Table]]:
    """Each step with the rows that this worker reads for it.

    Raises:
        RuntimeError: the rows are not those of the plan; going on would train on the wrong rows.
    """
    for step, table in enumerate(tables, start=first_step):
        wanted = list(rows_of(step, rank, workers, batch_rows))
        got = table["gidx"].to_pylist()
        if got != wanted:
            raise RuntimeError(f"step {step}, worker {rank}: got rows {got[:8]}, the plan says {wanted[:8]}")
        yield step, table
