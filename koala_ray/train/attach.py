"""The weights of a run that goes on, as a Hugging Face folder: those of its latest committed checkpoint."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from koala_ray import storage
from koala_ray.checkpoint.export import write_model
from koala_ray.checkpoint.manifest import MANIFEST, Checkpoint, whole_checkpoints
from koala_ray.checkpoint.shard import DamagedShard, ShardReader, fetch
from koala_ray.errors import KoalaError
from koala_ray.home import cached_folder
from koala_ray.recipe import Recipe
from koala_ray.train.engine import deepspeed_config
from koala_ray.train.model import load_model
from koala_ray.train.step import MODEL, RECIPE


@dataclass(frozen=True)
class Attached:
    """A run's weights at some step."""

    folder: str
    """A local Hugging Face folder."""
    step: int
    """Steps that were taken."""


def attach(run: str) -> Attached | None:
    """The latest committed weights of a run that hasn't ended; None if this is no such run.

    Args:
        run: a train step's folder or URI.

    Raises:
        KoalaError: the run has committed nothing yet.
    """
    if not storage.exists(storage.join(run, RECIPE)) or storage.exists(storage.join(run, MODEL, "config.json")):
        return None
    for checkpoint in whole_checkpoints(run):
        name = hashlib.sha256(f"{checkpoint.uri} {storage.sha256(checkpoint.file(MANIFEST))}".encode()).hexdigest()
        try:
            folder = cached_folder(f"models/run-{name[:16]}", partial(_build, run, checkpoint))
        except (DamagedShard, FileNotFoundError):
            continue  # the run has removed it meanwhile, or will find so itself
        return Attached(str(folder), checkpoint.manifest.steps_taken)
    raise KoalaError("this run has committed no checkpoint yet", where=run, mend="wait for its first one")


def _build(run: str, checkpoint: Checkpoint, into: Path) -> None:
    """Write the model of a checkpoint."""
    recipe = Recipe.model_validate(yaml.safe_load(storage.read_bytes(storage.join(run, RECIPE))))
    settings = recipe.train.model_copy(update={"zero_stage": 0})
    model = load_model(recipe.model.base, settings, recipe.lora, deepspeed_config(settings))
    with tempfile.TemporaryDirectory(prefix="koala-checkpoint-") as temporary:
        shards = checkpoint.manifest.shards
        files = {shard.file: fetch(checkpoint.uri, shard, Path(temporary)) for shard in shards}
        reader = ShardReader(shards, files)
        for name, weight in model.named_parameters():
            if name in checkpoint.manifest.weights:
                weight.detach().copy_(reader.read("weight", name, 0, weight.numel()).view(weight.shape))
    write_model(model, recipe.model.base, into)
