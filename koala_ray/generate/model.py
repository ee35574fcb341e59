"""Which model is asked: its place, its hash, and where in training its weights were taken."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from koala_ray import storage
from koala_ray.checkpoint.export import ADAPTER
from koala_ray.errors import KoalaError
from koala_ray.models.adapter import is_adapter
from koala_ray.models.bundled import BUILDERS
from koala_ray.models.resolve import fingerprint, lasting_name
from koala_ray.steps import is_committed, read_manifest
from koala_ray.train.step import MODEL, RECIPE

BASE = "base"
"""The name of the model that a recipe starts from."""


@dataclass(frozen=True)
class AskedModel:
    """A model that is generated with."""

    name: str
    """As it was asked for; a local folder's whole path."""
    place: str
    """What :func:`koala_ray.models.resolve.resolve` takes."""
    hash: str
    """sha256 over its files; an adapter's, over those of the merged model."""
    step: int | None = None
    """Steps of training behind its weights, where it was taken from a run."""

    @property
    def title(self) -> str:
        """A short name for people and files."""
        return self.name.rstrip("/").rpartition("/")[2]


def open_model(name: str, out: str = "", base: str = "") -> AskedModel:
    """Find a model; of a run that hasn't ended, the weights in its latest committed checkpoint.

    Args:
        name: a bundled model's name, a Hugging Face id, a folder (a train step's, or an adapter's, too), or a URI;
            ``base``; or the name of a recipe that was trained below ``out``.
        out: the folder or URI with the train steps.
        base: the model that ``base`` stands for.

    Raises:
        KoalaError: there is no such model, several runs have the name, or an adapter doesn't fit its base model.
    """
    if name == BASE and base:
        name = base
    elif "/" not in name and name not in BUILDERS and not storage.is_folder(name):
        name = _run_of(name, out)
    name = lasting_name(name)
    if "/" in name and storage.is_folder(name) and not is_adapter(name):
        from koala_ray.train.attach import attach

        if found := attach(name):
            return AskedModel(name, found.folder, fingerprint(found.folder), found.step)
    return AskedModel(name, name, fingerprint(name), _steps_of(name))


def _run_of(name: str, out: str) -> str:
    """The one run below a folder that was started with a recipe of this name."""
    runs = []
    for file in storage.list_files(storage.absolute(out), [f"train-*/{RECIPE}"]) if out else []:
        if yaml.safe_load(storage.read_bytes(file.uri)).get("name") == name:
            runs.append(file.uri.rpartition("/")[0])
    if len(runs) == 1:
        return runs[0]
    raise KoalaError(
        f"{len(runs)} runs have this recipe's name" if runs else "there is no such model, and no run of that name",
        where=f"{name} below {storage.absolute(out)}" if out else name,
        mend=f"give one of {', '.join(runs)}" if runs else f"give a folder, a URI, or one of {BASE}, {_bundled()}",
    )


def _bundled() -> str:
    return ", ".join(BUILDERS)


def _steps_of(name: str) -> int | None:
    """The steps of a finished run, by its folder, its model's or its adapter's."""
    for folder in (name, name.rpartition("/")[0], name.removesuffix(f"/{MODEL}/{ADAPTER}")):
        if folder and "/" in folder and is_committed(folder):
            manifest = read_manifest(folder)
            return manifest.counts.get("steps") if manifest.step == "train" else None
    return None
