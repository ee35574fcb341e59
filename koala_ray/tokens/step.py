"""The token step: curated examples → rendered, masked, packed rows of all epochs, and a held-out set."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from koala_ray import storage
from koala_ray.curate.ledger import EXAMPLES, LEDGER, PAGE, REJECTED, Ledger
from koala_ray.curate.ledger_page import page
from koala_ray.errors import KoalaError
from koala_ray.progress import Progress
from koala_ray.recipe import Recipe
from koala_ray.records import rejected_schema
from koala_ray.session import connect
from koala_ray.steps import StepResult, find_step, run_step
from koala_ray.tables import PartWriter, groups_of, part_files
from koala_ray.tokens.pack import fill, pack
from koala_ray.tokens.scratch import Scratch
from koala_ray.tokens.shards import Dialogues, write_shards
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.tokens.worker import tokenize_group

FORMAT = 3
"""Raised when the same examples would give other rows."""
TRAIN, HELDOUT = "train", "heldout"


def tokenize(recipe: Recipe, curated: StepResult, out: str) -> StepResult:
    """Write the token shards of a curated folder: ``train/`` over all epochs, ``heldout/`` once.

    Raises:
        KoalaError: no dialogue is left, or the base model has no usable tokenizer.
    """
    return run_step(
        "tokens",
        out,
        settings=_settings(recipe),
        inputs=_inputs(recipe, curated),
        seed=recipe.tokens.seed,
        build=lambda folder: _build(folder, recipe, curated),
        unlisted=(PAGE,),
    )


def find_tokens(recipe: Recipe, curated: StepResult, out: str) -> StepResult | None:
    """The finished step that :func:`tokenize` would give, if it is there.

    Raises:
        KoalaError: the base model has no usable tokenizer.
    """
    return find_step("tokens", out, _settings(recipe), _inputs(recipe, curated))


def _settings(recipe: Recipe) -> dict[str, Any]:
    mixture = recipe.data.model_dump(mode="json", include={"mixture", "repeats", "conditioning", "seed"})
    chosen = recipe.tokens.model_dump(mode="json")
    return {"format": FORMAT, "epochs": recipe.train.epochs, **chosen, "mixture": mixture}


def _inputs(recipe: Recipe, curated: StepResult) -> dict[str, Any]:
    tokenizer = Tokenizer.load(recipe.model.base)
    return {"curate": curated.manifest.content_hash, "tokenizer": tokenizer.fingerprint()}


def _build(folder: str, recipe: Recipe, curated: StepResult) -> dict[str, Any]:
    context = recipe.tokens.context
    ledger = Ledger.from_json(curated.manifest.counts)
    notes: dict[str, Counter[str]] = {name: Counter() for name in ledger.sources}
    with tempfile.TemporaryDirectory(prefix="koala-ray-tokens-") as scratch:
        splits = {name: Scratch(Path(scratch), name) for name in (TRAIN, HELDOUT)}
        with (
            PartWriter(folder, REJECTED, rejected_schema()) as rejected,
            Progress("tokenize", curated.manifest.counts["rows_kept"], "rows") as bar,
        ):
            done = 0
            for table in _stream(recipe, curated):
                lost = table.filter(pc.is_valid(table["filter"]))
                for row in lost.select(["source", "filter", "reason"]).to_pylist():
                    ledger.reject_kept(row["source"], row["filter"], row["reason"])
                rejected.add(lost.append_column("excerpt", lost["id"]))
                kept = table.filter(pc.is_null(table["filter"]))
                noted = kept.filter(pc.not_equal(kept["note"], ""))
                for source, note in zip(noted["source"].to_pylist(), noted["note"].to_pylist(), strict=True):
                    notes[source][note] += 1
                for name, split in splits.items():
                    split.add(kept.filter(pc.equal(kept["split"], name)))
                done += lost.num_rows + pc.sum(pc.equal(kept["piece"], 0)).as_py()
                bar.update(done, f"{sum(split.tokens for split in splits.values()):,} tokens")
        train, copies = splits[TRAIN].dialogues()
        heldout, _ = splits[HELDOUT].dialogues()
        if not len(train.names):
            raise KoalaError(
                "no dialogue is left to train on",
                where=curated.folder,
                mend="look at rejected-*.parquet and ledger.json there for the reasons",
            )
        # What is read twice in an epoch is packed twice.
        entries = np.repeat(np.arange(len(copies)), copies)
        lengths = train.lengths[entries].tolist()
        packs = [entries[row].tolist() for row in pack(lengths, context)]
        heldout_packs = pack(heldout.lengths.tolist(), context)
        rows = write_shards(storage.join(folder, TRAIN), train, packs, recipe.train.epochs, recipe.tokens.seed)
        write_shards(storage.join(folder, HELDOUT), heldout, heldout_packs, 1, recipe.tokens.seed)
        counts = ledger.as_json()
        groups = train.groups.indices.to_numpy()[entries]
        for name, entry in counts["sources"].items():
            chosen = entries[np.isin(groups, _groups_of_source(train, name))]
            entry |= {"cut": notes[name]["cut"], "split": notes[name]["split"]}
            entry |= _source_tokens(train.lengths[chosen], train.learnt[chosen], context)
    counts |= {
        "prompts": curated.manifest.counts["prompts"],
        "context": context,
        "epochs": recipe.train.epochs,
        "rows": rows,
        "tokens": sum(lengths),
        "learnt_tokens": int(train.learnt[entries].sum()),
        "packs": len(packs),
        "fill": round(fill(lengths, len(packs), context), 5),
        "heldout": {
            "dialogues": len(heldout.names),
            "tokens": int(heldout.lengths.sum()),
            "learnt_tokens": int(heldout.learnt.sum()),
            "packs": len(heldout_packs),
            "groups": group_tokens(heldout),
        },
    }
    data = json.dumps(counts, indent=1, ensure_ascii=False).encode()
    storage.write_atomic(storage.join(folder, LEDGER), data)
    counts["base"] = recipe.model.base  # not in the hashed ledger: a tokenizer is what it is wherever it lies
    provenance = {"curated": curated.manifest.key, "curation": curated.manifest.settings}
    storage.write_atomic(storage.join(folder, PAGE), page(counts, "The data, row by row", provenance).encode())
    return counts


def _stream(recipe: Recipe, curated: StepResult) -> Iterator[pa.Table]:
    """The tokenized dialogues of all examples, in order. Without a row there is nothing for Ray Data to do."""
    parts = part_files(curated.folder, EXAMPLES)
    tasks = [{"uri": parts[part], "group": group} for part, group in groups_of(curated.manifest.counts["rows_kept"])]
    if not tasks:
        return
    ray = connect()
    stream = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
        tokenize_group, batch_size=1, fn_args=[recipe.model.base, recipe.tokens, recipe.data]
    )
    yield from stream.iter_batches(batch_size=None, batch_format="pyarrow")


def _groups_of_source(dialogues: Dialogues, source: str) -> list[int]:
    """The places of a source's groups in the dialogues' dictionary of groups."""
    names = dialogues.groups.dictionary.to_pylist()
    return [place for place, name in enumerate(names) if name.partition("/")[0] == source]


def group_tokens(dialogues: Dialogues) -> dict[str, dict[str, int]]:
    """For each source and marker its dialogues (pieces counted) and tokens."""
    of_group = dialogues.groups.indices.to_numpy()
    tokens = {}
    for place, name in enumerate(dialogues.groups.dictionary.to_pylist()):
        chosen = of_group == place
        tokens[name] = {
            "dialogues": int(chosen.sum()),
            "tokens": int(dialogues.lengths[chosen].sum()),
            "learnt_tokens": int(dialogues.learnt[chosen].sum()),
        }
    return dict(sorted(tokens.items()))


def _source_tokens(lengths: np.ndarray, learnt: np.ndarray, context: int) -> dict[str, Any]:
    """A source's dialogues (pieces and repeats counted) and tokens in one epoch, and how long they are."""
    borders = [0, *(1 << power for power in range(5, context.bit_length() + 1) if 1 << power <= context)]
    places = np.searchsorted(borders, lengths, side="right") - 1
    return {
        "dialogues": len(lengths),
        "tokens": int(lengths.sum()),
        "learnt_tokens": int(learnt.sum()),
        "lengths": {"borders": borders, "dialogues": np.bincount(places, minlength=len(borders)).tolist()},
    }
