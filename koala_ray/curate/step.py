"""The curation step: raw files → examples that passed all filters, rejected rows, and a ledger of both.

Ray Data streams raw files to raw rows to judged rows, in order. The driver walks that stream once: it decides what
depends on earlier rows (duplicates), counts, and writes parts of a fixed size, so that the folder's bytes are the same
whatever the number of CPUs and blocks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from koala_ray import storage
from koala_ray.curate.decontaminate import prompts_left, texts_of
from koala_ray.curate.duplicates import Duplicates
from koala_ray.curate.ledger import EXAMPLES, LEDGER, PAGE, REJECTED, Ledger
from koala_ray.curate.ledger_page import page
from koala_ray.curate.near_duplicates import NearDuplicates
from koala_ray.curate.worker import FilterSettings, curate_rows, split_file
from koala_ray.errors import KoalaError
from koala_ray.progress import Progress, say
from koala_ray.prompts import PromptSet, load_prompts, stored_sets
from koala_ray.recipe import SAMPLE_ROOT, CurateSettings, Recipe
from koala_ray.records import example_schema, rejected_schema
from koala_ray.session import connect
from koala_ray.sources.registry import check_layouts, find_files
from koala_ray.steps import StepResult, canonical, find_step, run_step
from koala_ray.tables import PartWriter

FORMAT = 3
"""Raised when the same raw files would give other examples."""
FILES_AT_ONCE = 2
"""Raw files that are split at the same time: it is reading, not work, and they wait in the object store."""
BLOCK_BYTES = 8 << 20
"""Ray Data's largest block here: small, so that few rows are under way at any time."""


def curate(recipe: Recipe, out: str) -> StepResult:
    """Curate a recipe's raw files into ``examples-*.parquet`` and ``rejected-*.parquet``, with a ledger.

    Raises:
        KoalaError: the raw files aren't there or hold another data set, a prompt set isn't there, or ``out`` can't be
            written.
    """
    files, prompts = find_files(recipe.data), _prompt_sets(recipe)
    check_layouts(files)
    settings, inputs = _settings(recipe), _inputs(files, prompts)
    tasks = [
        {"source": name, "uri": file.uri, "relative": file.relative} for name, found in files.items() for file in found
    ]
    return run_step(
        "curate",
        out,
        settings=settings,
        inputs=inputs,
        seed=recipe.data.seed,
        build=lambda folder: _build(folder, tasks, prompts, recipe, {"settings": settings, "inputs": inputs}),
        unlisted=(PAGE,),
    )


def find_curated(recipe: Recipe, out: str) -> StepResult | None:
    """The finished step that :func:`curate` would give, if it is there; raw files are read for their checksums alone.

    Raises:
        KoalaError: the raw files or a prompt set aren't there.
    """
    return find_step("curate", out, _settings(recipe), _inputs(find_files(recipe.data), _prompt_sets(recipe)))


def _settings(recipe: Recipe) -> dict[str, Any]:
    chosen = recipe.curate.model_dump(mode="json", exclude={"against"})
    return {"format": FORMAT, "heldout": recipe.data.heldout, "seed": recipe.data.seed, **chosen}


def _inputs(files: dict[str, list[storage.StoredFile]], prompts: Sequence[PromptSet]) -> dict[str, Any]:
    listed = [
        {"source": name, "path": file.relative, "size": file.size, "sha256": storage.sha256(file.uri)}
        for name, found in files.items()
        for file in found
    ]
    inputs = {"files": listed, "prompts": {found.name: found.hash() for found in prompts}}
    if any(prompt.more for found in prompts for prompt in found.prompts):
        # Not a folder whose rows were held against first turns alone. FORMAT would change one turn's folders, too.
        inputs["turns"] = "every"
    return inputs


def _prompt_sets(recipe: Recipe) -> list[PromptSet]:
    """The prompt sets that rows are held against: those named, or the stored ones that are there."""
    if recipe.curate.decontaminate == "off":
        return []
    data = None if recipe.data.root == SAMPLE_ROOT else recipe.data.root
    if not recipe.curate.against:
        return stored_sets(data)
    found = [load_prompts(name, data=data) for name in recipe.curate.against]
    if twice := [name for name, count in Counter(one.name for one in found).items() if count > 1]:
        raise KoalaError(
            f"two prompt sets have the same name: {', '.join(twice)}",
            where=f"curate.against={recipe.curate.against}",
            mend="name each set once, and give files of the same name other names",
        )
    return found


def _build(
    folder: str, tasks: list[dict[str, str]], prompts: list[PromptSet], recipe: Recipe, provenance: dict[str, Any]
) -> dict[str, Any]:
    walk = _Walk(tasks, prompts, recipe.curate)
    if not prompts and recipe.curate.decontaminate != "off":
        say(
            "no stored prompt set is there to hold rows against (prompts/ below --data, or $KOALA_DATA); "
            "`koala-ray fetch koala self-instruct vicuna --to DIR` gets them"
        )
    with (
        PartWriter(folder, EXAMPLES, example_schema()) as examples,
        PartWriter(folder, REJECTED, rejected_schema()) as rejected,
        Progress("curate", None, "rows") as bar,
    ):
        for table in _stream(tasks, _filter_settings(recipe, prompts)):
            kept, lost = walk.judge(table)
            examples.add(kept)
            rejected.add(lost)
            bar.update(examples.rows + rejected.rows, f"{rejected.rows:,} rejected")
    counts = walk.ledger.as_json() | {"prompts": walk.prompt_counts()}
    if recipe.curate.decontaminate == "prompts":
        for found, left in prompts_left(prompts, walk.hit):
            lines = b"".join(canonical(prompt.as_row()) + b"\n" for prompt in left)
            storage.write_atomic(storage.join(folder, "prompts", f"{found.name}.jsonl"), lines)
    data = json.dumps(counts, indent=1, ensure_ascii=False).encode()
    storage.write_atomic(storage.join(folder, LEDGER), data)
    storage.write_atomic(storage.join(folder, PAGE), page(counts, "Curation, row by row", provenance).encode())
    return counts


def _stream(tasks: list[dict[str, str]], settings: FilterSettings) -> Iterator[pa.Table]:
    """The judged rows of all files, in order."""
    ray = connect()
    context = ray.data.DataContext.get_current()
    before, context.target_max_block_size = context.target_max_block_size, BLOCK_BYTES
    try:
        # num_cpus=0 keeps the two apart (Ray would do both in one task a file) and all CPUs for the second.
        raw = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            split_file, batch_size=1, num_cpus=0, concurrency=FILES_AT_ONCE
        )
        judged = raw.map_batches(
            curate_rows, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, fn_args=[settings]
        )
        yield from judged.iter_batches(batch_size=None, batch_format="pyarrow")
    finally:
        context.target_max_block_size = before


def _filter_settings(recipe: Recipe, prompts: Sequence[PromptSet]) -> FilterSettings:
    curate = recipe.curate
    return FilterSettings(
        heldout=recipe.data.heldout,
        seed=recipe.data.seed,
        repair=curate.repair,
        keywords=curate.keywords,
        keywords_in=curate.keywords_in,
        english=curate.language == "en",
        near_duplicates=curate.near_duplicates > 0,
        drop_contaminated=curate.decontaminate == "rows",
        prompts=texts_of(prompts),
        bleu=curate.bleu,
    )


class _Walk:
    """The one walk over all rows in order: decides on duplicates and keeps the account."""

    def __init__(self, tasks: Sequence[dict[str, str]], prompts: Sequence[PromptSet], settings: CurateSettings) -> None:
        self.ledger = Ledger.of(dict.fromkeys(task["source"] for task in tasks))
        self.settings = settings
        self.prompts = prompts
        self.hit: set[int] = set()
        self._duplicates = Duplicates()
        self._near = NearDuplicates(settings.near_duplicates) if settings.near_duplicates else None

    def judge(self, table: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Count a table of judged rows and part it into examples and rejected rows."""
        by, reasons, excerpts = (table[name].to_pylist() for name in ("filter", "reason", "excerpt"))
        sources, pairs = table["source"].to_pylist(), table["pair"].to_pylist()
        keys, signatures = table["key"].to_pylist(), table["signature"].to_pylist()
        for place, key in enumerate(keys):
            if by[place] is None and (reason := self._reason(sources[place], key, pairs[place], signatures[place])):
                by[place], reasons[place] = reason
                excerpts[place] = table["turns"][place][0]["text"].as_py()[:200]
        kept = np.array([name is None for name in by], dtype=bool)
        for (source, name, reason), rows in Counter(zip(sources, by, reasons, strict=True)).items():
            if name is None:
                self.ledger.keep(source, rows)
            else:
                self.ledger.reject(source, name, reason, rows)
        for source, kinds, is_kept in zip(sources, table["repairs"].to_pylist(), kept, strict=True):
            if kinds and is_kept:
                self.ledger.sources[source].repaired.update(kinds)
        self.hit.update(pc.list_flatten(table["hits"]).to_pylist())
        judged = table.select(["source", "file", "line"]).append_column("filter", pa.array(by, pa.string()))
        judged = judged.append_column("reason", pa.array(reasons, pa.string()))
        judged = judged.append_column("excerpt", pa.array(excerpts, pa.string()))
        return table.filter(pa.array(kept)), judged.filter(pa.array(~kept))

    def _reason(self, source: str, key: bytes, pair: str, sign: bytes | None) -> tuple[str, str] | None:
        scope = self.settings.duplicates
        if scope != "keep":
            scoped = key if scope == "across" else source.encode() + key
            if self._duplicates.seen(scoped, pair):
                return "duplicates", "asks the same as an earlier row"
        if self._near is not None and sign is not None and self._near.seen(sign, pair):
            return "near duplicates", "nearly the same as an earlier row"
        return None

    def prompt_counts(self) -> dict[str, dict[str, int]]:
        """For each prompt set how many prompts it has and how many came too close to a row."""
        return {
            found.name: {"prompts": len(found.prompts), "contaminated": len(found.prompts) - len(left)}
            for found, left in prompts_left(self.prompts, self.hit)
        }
