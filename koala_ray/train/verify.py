"""The packed data before it is trained on: is it what was written, what the recipe says, and what the model reads?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.progress import Progress
from koala_ray.recipe import Recipe
from koala_ray.steps import StepResult
from koala_ray.tokens.shards import read_plan
from koala_ray.tokens.step import HELDOUT, TRAIN

THREADS = 8
"""Files that are read at the same time: an object store gives each of them a part of its bandwidth."""
NAMED = 3
"""Damaged files that a refusal names."""
_verified: set[tuple[str, str]] = set()
"""Folder and content hash of what this process has read through."""


def verify(tokens: StepResult) -> None:
    """Read all files that training reads through once and hold them against the manifest's sizes and checksums.

    A folder that this process wrote or has verified before is not read again.

    Raises:
        KoalaError: a file is missing, or isn't what was written.
    """
    known = (tokens.folder, tokens.manifest.content_hash)
    if known in _verified or not tokens.skipped:
        return
    files = [file for file in tokens.manifest.files if file["path"].startswith((f"{TRAIN}/", f"{HELDOUT}/"))]
    listed = storage.list_files(tokens.folder, [f"{TRAIN}/**", f"{HELDOUT}/**"])
    sizes = {file.relative: file.size for file in listed}
    megabytes = sum(file["size"] for file in files) / 1e6
    wrong: list[str] = []
    with ThreadPoolExecutor(THREADS) as pool, Progress("verify", round(megabytes), "MB") as bar:
        jobs = {pool.submit(_difference, tokens.folder, file, sizes.get(file["path"])): file for file in files}
        done = 0.0
        for job in as_completed(jobs):
            done += jobs[job]["size"] / 1e6
            bar.update(round(done))
            if difference := job.result():
                wrong.append(f"{jobs[job]['path']} {difference}")
    if wrong:
        named = "; ".join(sorted(wrong)[:NAMED])
        more = "; …" if len(wrong) > NAMED else ""
        raise KoalaError(
            f"{len(wrong)} of {len(files)} files are not what was written: {named}{more}",
            where=tokens.folder,
            mend="remove this folder and run the command again: it packs the same rows anew",
        )
    _verified.add(known)


def _difference(folder: str, file: dict[str, Any], size: int | None) -> str:
    """How a stored file differs from what its manifest says; empty if it doesn't."""
    if size is None:
        return "is missing"
    if size != file["size"]:
        return f"has {size:,} bytes, not {file['size']:,}"
    found = storage.sha256(storage.join(folder, file["path"]))
    return "" if found == file["sha256"] else f"has the sha256 {found[:12]}…, not {file['sha256'][:12]}…"


def data_problems(recipe: Recipe, tokens: StepResult) -> Iterator[KoalaError]:
    """What the recipe says of the packed rows and is otherwise, and what the plan says can't be learnt from."""
    said: dict[str, Any] = {"train.epochs": recipe.train.epochs}
    said |= {f"tokens.{name}": value for name, value in recipe.tokens.model_dump(mode="json").items()}
    for key, value in said.items():
        packed = tokens.manifest.settings[key.partition(".")[2]]
        if packed != value:
            yield KoalaError(
                f"the rows were packed with {key} {packed}, the recipe says {value}",
                where=tokens.folder,
                mend=f"--set {key}={packed}, or run `koala-ray prepare` with this recipe",
            )
    plan = read_plan(storage.join(tokens.folder, TRAIN))
    batch = recipe.train.batch_rows
    learnt = plan.per_step(plan.learnt, batch)[: recipe.train.max_steps or None]
    barren = np.flatnonzero(learnt == 0)
    if len(barren):
        first = int(barren[0]) * batch
        last = min(first + batch, plan.rows) - 1
        yield KoalaError(
            f"{len(barren)} of {len(learnt)} steps learn no token: step {barren[0] + 1}, rows {first} to {last}, first",
            where=tokens.folder,
            mend=f"--set train.batch_rows={2 * batch}; `koala-ray preview {tokens.folder} --first {first}` shows them",
        )
    unmasked = np.flatnonzero(plan.learnt >= plan.tokens)
    if len(unmasked):
        yield KoalaError(
            f"{len(unmasked)} of {plan.rows} rows learn every token, the questions' too: row {unmasked[0]} first",
            where=tokens.folder,
            mend="remove this folder and run `koala-ray prepare` again",
        )


def vocabulary_problems(recipe: Recipe, tokens: StepResult, config: Any, folder: str) -> Iterator[KoalaError]:
    """What doesn't fit between the rows, the base model's tokenizer, and the model's embedding and settings.

    A padding token that is the end-of-sequence token is accepted: rows have no padding, and the mask goes by place
    and not by id, so that the end of an answer is learnt all the same.

    Args:
        recipe: names the base model.
        tokens: the packed rows.
        config: the base model's configuration, as transformers reads it.
        folder: where its files lie.
    """
    from koala_ray.tokens.tokenizer import Tokenizer

    where = f"model.base {recipe.model.base}"
    tokenizer = Tokenizer.load(recipe.model.base)
    if tokenizer.fingerprint() != tokens.manifest.inputs["tokenizer"]:
        yield KoalaError(
            "the rows were made with another tokenizer than the base model's",
            where=tokens.folder,
            mend="run `koala-ray prepare` with this recipe, or train the model that the rows were made for",
        )
    size = config.get_text_config().vocab_size
    if tokenizer.size > size:
        yield KoalaError(
            f"the tokenizer has {tokenizer.size} ids, the model {size}",
            where=where,
            mend="use the tokenizer that belongs to the model",
        )
    largest = max(largest_id(storage.join(tokens.folder, TRAIN)), tokenizer.eos_id)
    if largest >= size:
        yield KoalaError(
            f"the rows hold the id {largest}, the model's embedding ends at {size - 1}",
            where=where,
            mend="use the tokenizer that belongs to the model, and run `koala-ray prepare` with it",
        )
    ends = end_ids(config, folder)
    if ends and tokenizer.eos_id not in ends:
        piece = tokenizer.piece(tokenizer.eos_id)
        yield KoalaError(
            f"the rows end answers with the tokenizer's {tokenizer.eos_id} ({piece}), the model stops at "
            f"{', '.join(map(str, sorted(ends)))}",
            where=where,
            mend=f'write "eos_token_id": {tokenizer.eos_id} into its config.json and generation_config.json, or use '
            "the tokenizer that belongs to the model",
        )


def largest_id(folder: str) -> int:
    """The largest token id in a folder's shards, by their Parquet footers alone; -1 without rows."""
    largest = -1
    for file in storage.list_files(folder, ["shard-*.parquet"]):
        filesystem, path = storage.arrow_filesystem(file.uri)
        footer = pq.read_metadata(path, filesystem=filesystem)
        for place in range(footer.num_row_groups):
            group = footer.row_group(place)
            columns = [group.column(column) for column in range(group.num_columns)]
            ids = [column.statistics for column in columns if column.path_in_schema.startswith("input_ids.")]
            largest = max([largest, *(statistics.max for statistics in ids)])
    return largest


def end_ids(config: Any, folder: str) -> set[int]:
    """The ids at which programs that load a model stop: those of its configuration and of its generation settings."""
    found = [config.get_text_config().eos_token_id]
    generation = Path(folder) / "generation_config.json"
    if generation.is_file():
        found.append(json.loads(generation.read_bytes()).get("eos_token_id"))
    return {end for ends in found if ends is not None for end in (ends if isinstance(ends, list) else [ends])}
