"""How much there is to train on: from the real pack plan if prepared, else from a stated number of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.plan.flops import attended_positions
from koala_ray.plan.hardware import assumption
from koala_ray.recipe import Recipe
from koala_ray.steps import read_manifest
from koala_ray.tokens.shards import read_plan

TRAIN = "train"


@dataclass(frozen=True)
class Workload:
    """What a run trains on, over all its epochs."""

    tokens: int
    """Positions in all steps, padding not counted."""
    tokens_per_epoch: int
    learnt: int | None
    """Learnt tokens in all steps, where the packs are known."""
    rows: int
    steps: int
    attended: float
    """Positions that a token attends to in the mean."""
    known_from: str

    @property
    def tokens_per_step(self) -> float:
        """Tokens of a global batch in the mean."""
        return self.tokens / self.steps


def prepared_workload(recipe: Recipe, folder: str) -> Workload:
    """The workload of a token step's folder.

    Raises:
        KoalaError: the folder is no finished step's, or was prepared with other epochs or another context.
    """
    manifest = read_manifest(folder)
    for key, wanted in (("epochs", recipe.train.epochs), ("context", recipe.tokens.context)):
        if manifest.settings.get(key) != wanted:
            raise KoalaError(
                f"the packs were prepared with {key} {manifest.settings.get(key)}, the recipe has {wanted}",
                where=folder,
                mend="prepare again with this recipe, or plan from --tokens",
            )
    packs = read_plan(storage.join(folder, TRAIN))
    steps = _cut(packs.steps(recipe.train.batch_rows), recipe)
    used = slice(0, steps * recipe.train.batch_rows)
    return Workload(
        tokens=int(packs.tokens[used].sum()),
        tokens_per_epoch=int(packs.tokens[packs.epoch == 0].sum()),
        learnt=int(packs.learnt[used].sum()),
        rows=len(packs.tokens[used]),
        steps=steps,
        attended=attended_positions(dialogue_lengths(storage.join(folder, TRAIN))),
        known_from=f"the pack plan of {folder}",
    )


def stated_workload(recipe: Recipe, tokens_per_epoch: int) -> Workload:
    """The workload of so many tokens an epoch, packed as full and of dialogues as long as the data file assumes.

    Raises:
        KoalaError: there are no tokens.
    """
    if tokens_per_epoch <= 0:
        raise KoalaError("an epoch needs tokens", where=f"--tokens {tokens_per_epoch}", mend="give a positive number")
    context, train = recipe.tokens.context, recipe.train
    rows = math.ceil(tokens_per_epoch / (context * assumption("fill").value)) * train.epochs
    all_steps = math.ceil(rows / train.batch_rows)
    steps = _cut(all_steps, recipe)
    # Length weighted by tokens: a token of a dialogue of s tokens attends to (s + 1) / 2 in the mean.
    length = min(assumption("dialogue_tokens").value, context)
    return Workload(
        tokens=round(tokens_per_epoch * train.epochs * steps / all_steps),
        tokens_per_epoch=tokens_per_epoch,
        learnt=None,
        rows=min(rows, steps * train.batch_rows),
        steps=steps,
        attended=(length + 1) / 2,
        known_from=f"{tokens_per_epoch:,} tokens an epoch, as stated",
    )


def dialogue_lengths(shards: str) -> np.ndarray:
    """The lengths in tokens of all dialogues of the first epoch; reads one column of the shards."""
    pieces = []
    for file in storage.list_files(shards, ["shard-*.parquet"]):
        with storage.open_read(file.uri) as opened:
            table = pq.read_table(opened, columns=["epoch", "lengths"])
        first = table.filter(pc.equal(table["epoch"], 0))
        if not first.num_rows:
            break
        pieces.append(pc.list_flatten(first["lengths"]).to_numpy())
    return np.concatenate(pieces)


def _cut(steps: int, recipe: Recipe) -> int:
    return min(steps, recipe.train.max_steps) if recipe.train.max_steps else steps
