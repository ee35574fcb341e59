"""The token step: curated examples → rendered, masked, packed rows of all epochs, and a held-out set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from koala_ray import storage
from koala_ray.curate.ledger import Ledger
from koala_ray.errors import KoalaError
from koala_ray.progress import Progress
from koala_ray.recipe import Recipe
from koala_ray.records import Example, rejected_schema
from koala_ray.session import connect
from koala_ray.steps import StepResult, run_step
from koala_ray.tables import PartWriter, part_files, read_table
from koala_ray.tokens.pack import fill, pack
from koala_ray.tokens.shards import Dialogues, write_shards
from koala_ray.tokens.template import fit, render
from koala_ray.tokens.tokenizer import Tokenizer

FORMAT = 1
"""Raised when the same examples would give other rows."""
LEDGER = "ledger.json"
TRAIN, HELDOUT = "train", "heldout"
_STREAM_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("split", pa.string()),
        ("ids", pa.list_(pa.int32())),
        ("learn", pa.list_(pa.bool_())),
        ("note", pa.string()),
        ("kept", pa.bool_()),
    ]
)


def tokenize(recipe: Recipe, curated: StepResult, out: str) -> StepResult:
    """Write the token shards of a curated folder: ``train/`` over all epochs, ``heldout/`` once.

    Raises:
        KoalaError: no dialogue is left, or the base model has no usable tokenizer.
    """
    tokenizer = Tokenizer.load(recipe.model.base)
    return run_step(
        "tokens",
        out,
        settings={"format": FORMAT, "epochs": recipe.train.epochs, **recipe.tokens.model_dump(mode="json")},
        inputs={"curate": curated.manifest.content_hash, "tokenizer": tokenizer.fingerprint()},
        seed=recipe.tokens.seed,
        build=lambda folder: _build(folder, recipe, curated),
    )


def _build(folder: str, recipe: Recipe, curated: StepResult) -> dict[str, Any]:
    ledger = Ledger.from_json(curated.manifest.counts)
    splits = {TRAIN: _Collector(), HELDOUT: _Collector()}
    parts = part_files(curated.folder, "examples")
    ray = connect()
    with (
        PartWriter(folder, "rejected", rejected_schema()) as rejected,
        Progress("tokenize", curated.manifest.counts["rows_kept"], "rows") as bar,
    ):
        settings = {
            "base": recipe.model.base,
            "context": recipe.tokens.context,
            "cut": recipe.tokens.long_dialogues == "cut",
        }
        # No part means no row; Ray Data has nothing to do then.
        stream = ray.data.from_items([{"uri": uri} for uri in parts], override_num_blocks=max(1, len(parts)))
        batches = stream.map_batches(tokenize_part, batch_size=1, fn_kwargs=settings) if parts else None
        done = 0
        for table in batches.iter_batches(batch_size=None, batch_format="pyarrow") if batches else ():
            for row in table.select(["source", "file", "line", "note", "kept"]).to_pylist():
                if not row["kept"]:
                    ledger.reject_kept(row["source"], row["note"])
                elif row["note"]:
                    ledger.sources[row["source"]].cut += 1
            lost = table.filter(pa.compute.invert(table["kept"])).rename_columns({"note": "reason"})
            rejected.add(lost.append_column("excerpt", lost["id"]))
            kept = table.filter(table["kept"])
            for name, collector in splits.items():
                collector.add(kept.filter(pa.compute.equal(kept["split"], name)))
            done += table.num_rows
            bar.update(done, f"{sum(collector.tokens for collector in splits.values()):,} tokens")
    train, heldout = splits[TRAIN].dialogues(), splits[HELDOUT].dialogues()
    if not train.names:
        raise KoalaError(
            "no dialogue is left to train on",
            where=curated.folder,
            mend="look at rejected-*.parquet and ledger.json there for the reasons",
        )
    context = recipe.tokens.context
    packs = pack(train.lengths.tolist(), context)
    heldout_packs = pack(heldout.lengths.tolist(), context)
    rows = write_shards(storage.join(folder, TRAIN), train, packs, recipe.train.epochs, recipe.tokens.seed)
    write_shards(storage.join(folder, HELDOUT), heldout, heldout_packs, 1, recipe.tokens.seed)
    counts = ledger.as_json() | {
        "base": recipe.model.base,
        "context": context,
        "epochs": recipe.train.epochs,
        "rows": rows,
        "tokens": int(train.lengths.sum()),
        "learnt_tokens": int(train.learn.sum()),
        "packs": len(packs),
        "fill": round(fill(train.lengths.tolist(), len(packs), context), 5),
        "heldout": {
            "dialogues": len(heldout.names),
            "tokens": int(heldout.lengths.sum()),
            "learnt_tokens": int(heldout.learn.sum()),
            "packs": len(heldout_packs),
        },
    }
    data = json.dumps(counts, indent=1, ensure_ascii=False).encode()
    storage.write_atomic(storage.join(folder, LEDGER), data)
    return counts


class _Collector:
    """Tokenized dialogues as they arrive, kept as few flat arrays rather than many small ones."""

    def __init__(self) -> None:
        self._ids: list[np.ndarray] = []
        self._learn: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._names: list[str] = []
        self.tokens = 0

    def add(self, table: pa.Table) -> None:
        ids = table["ids"].combine_chunks()
        learn = table["learn"].combine_chunks()
        self._ids.append(ids.flatten().to_numpy())
        self._learn.append(learn.flatten().to_numpy(zero_copy_only=False))
        self._lengths.append(pa.compute.list_value_length(ids).to_numpy(zero_copy_only=False).astype(np.int64))
        self._names += table["id"].to_pylist()
        self.tokens += len(self._ids[-1])

    def dialogues(self) -> Dialogues:
        ids = np.concatenate([np.zeros(0, np.int32), *self._ids])
        learn = np.concatenate([np.zeros(0, bool), *self._learn]).astype(bool)
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        return Dialogues(ids, learn, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), self._names)


@lru_cache(maxsize=1)
def _tokenizer(base: str) -> Tokenizer:
    """The tokenizer, loaded once in each of Ray's processes."""
    return Tokenizer.load(base)


def tokenize_part(task: dict[str, Any], base: str, context: int, cut: bool) -> Iterator[pa.Table]:
    """Ray Data's task: one part of curated examples → rendered ids and masks, in the part's order."""
    rows = read_table(str(task["uri"][0])).to_pylist()
    examples = [Example.from_row(row) for row in rows]
    values = []
    for example, rendered in zip(
        examples, render([example.turns for example in examples], _tokenizer(base)), strict=True
    ):
        fitted, note = fit(rendered, context)
        if note == "cut" and not cut:
            fitted, note = None, "longer than the context"
        values.append(
            {
                "id": example.id,
                "source": example.source,
                "file": example.file,
                "line": example.line,
                "split": example.split,
                "ids": fitted.ids if fitted else [],
                "learn": fitted.learn if fitted else [],
                "note": note,
                "kept": fitted is not None,
            }
        )
    yield pa.Table.from_pylist(values, schema=_STREAM_SCHEMA)
