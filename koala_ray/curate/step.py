"""The curation step: raw files are read by Ray Data, one task a file; examples and rejected rows are kept apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from koala_ray import storage
from koala_ray.curate.ledger import Ledger
from koala_ray.curate.split import split_of
from koala_ray.progress import Progress
from koala_ray.recipe import Recipe
from koala_ray.records import Example, example_schema, rejected_schema
from koala_ray.session import connect
from koala_ray.sources.registry import find_files, read_examples
from koala_ray.steps import StepResult, run_step
from koala_ray.tables import PartWriter

FORMAT = 2
"""Raised when the same raw files would give other examples."""
ROWS_PER_BLOCK = 512
LEDGER = "ledger.json"
_STREAM_SCHEMA = pa.schema([*example_schema(), pa.field("reason", pa.string()), pa.field("excerpt", pa.string())])


def curate(recipe: Recipe, out: str) -> StepResult:
    """Read a recipe's raw files into ``examples-*.parquet`` and ``rejected-*.parquet``, with ``ledger.json``.

    Raises:
        KoalaError: the raw files aren't there, or ``out`` can't be written.
    """
    files = find_files(recipe.data)
    listed = [
        {"source": name, "path": file.relative, "size": file.size, "sha256": storage.sha256(file.uri)}
        for name, found in files.items()
        for file in found
    ]
    tasks = [
        {"source": name, "uri": file.uri, "relative": file.relative} for name, found in files.items() for file in found
    ]
    return run_step(
        "curate",
        out,
        settings={"format": FORMAT, "heldout": recipe.data.heldout, "seed": recipe.data.seed},
        inputs={"files": listed},
        seed=recipe.data.seed,
        build=lambda folder: _build(folder, tasks, recipe),
    )


def _build(folder: str, tasks: list[dict[str, str]], recipe: Recipe) -> dict[str, Any]:
    ledger = Ledger.of(dict.fromkeys(task["source"] for task in tasks))
    ray = connect()
    with (
        PartWriter(folder, "examples", example_schema()) as examples,
        PartWriter(folder, "rejected", rejected_schema()) as rejected,
        Progress("read", None, "rows") as bar,
    ):
        settings = {"heldout": recipe.data.heldout, "seed": recipe.data.seed}
        stream = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            read_file, batch_size=1, fn_kwargs=settings
        )
        for table in stream.iter_batches(batch_size=None, batch_format="pyarrow"):
            kept = table.filter(pa.compute.is_null(table["reason"]))
            lost = table.filter(pa.compute.is_valid(table["reason"]))
            examples.add(kept)
            rejected.add(lost)
            for source in kept["source"].to_pylist():
                ledger.keep(source)
            for source, reason in zip(lost["source"].to_pylist(), lost["reason"].to_pylist(), strict=True):
                ledger.reject(source, reason)
            bar.update(examples.rows + rejected.rows, f"{rejected.rows:,} rejected")
    counts = ledger.as_json()
    data = json.dumps(counts, indent=1, ensure_ascii=False).encode()
    storage.write_atomic(storage.join(folder, LEDGER), data)
    return counts


def read_file(task: dict[str, Any], heldout: float, seed: int) -> Iterator[pa.Table]:
    """Ray Data's task: one raw file → tables of examples and rejected rows, in the file's order."""
    source, uri, relative = (str(task[name][0]) for name in ("source", "uri", "relative"))
    rows = iter(read_examples(source, uri, relative))
    while chunk := list(islice(rows, ROWS_PER_BLOCK)):
        values = []
        for item in chunk:
            if isinstance(item, Example):
                values.append(replace(item, split=split_of(item.pair, heldout, seed)).as_row())
            else:
                values.append(asdict(item))
        yield pa.Table.from_pylist(values, schema=_STREAM_SCHEMA)
