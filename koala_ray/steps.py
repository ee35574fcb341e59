"""A step's folder: its name and the hash of its settings and inputs; done once, skipped after.

A step is a stage's work on given inputs with given settings. Its folder is ``NAME-HASH``, holds its data
files, a ``manifest.json`` that explains them, and last of all a commit marker. Without the marker the folder
doesn't exist for a reader, and a rerun replaces it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from koala_ray import __version__, storage
from koala_ray.errors import KoalaError
from koala_ray.faults import outlast
from koala_ray.progress import say

MANIFEST = "manifest.json"
MARKER = "_COMMITTED"
VERSIONS_OF = ("ray", "torch", "deepspeed", "transformers", "tokenizers", "pyarrow", "numpy")


@dataclass(frozen=True)
class Manifest:
    """What a finished step's folder says about itself."""

    step: str
    key: str
    """sha256 over step name, settings and inputs: names the folder."""
    content_hash: str
    """sha256 over the paths and sha256s of the data files: equal content, equal hash."""
    settings: dict[str, Any]
    inputs: dict[str, Any]
    counts: dict[str, Any]
    files: list[dict[str, Any]]
    """Each data file's path, size in bytes and sha256."""
    seed: int | None
    seconds: float
    created: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepResult:
    """A committed step: where it is, what its manifest says, and whether it had been done before."""

    folder: str
    manifest: Manifest
    skipped: bool


def canonical(value: object) -> bytes:
    """JSON bytes that are equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def step_key(name: str, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """The sha256 that names a step's folder."""
    return hashlib.sha256(canonical({"step": name, "settings": settings, "inputs": inputs})).hexdigest()


def read_manifest(folder: str) -> Manifest:
    """The manifest of a finished step.

    Raises:
        KoalaError: the folder isn't there, isn't committed, or its manifest was changed after the commit.
    """
    where = storage.absolute(folder)
    if not storage.exists(storage.join(where, MARKER)):
        raise KoalaError(
            "this is not a finished step's folder (it has no commit marker)",
            where=where,
            mend="run the step again: it replaces what an interrupted run left",
        )
    uri = storage.join(where, MANIFEST)
    data = storage.read_bytes(uri) if storage.exists(uri) else b""
    if storage.read_bytes(storage.join(where, MARKER)).strip() != hashlib.sha256(data).hexdigest().encode():
        raise KoalaError(
            "the manifest doesn't match its commit marker: it was changed after the step",
            where=where,
            mend="remove this folder and run the step again",
        )
    return Manifest(**json.loads(data))


def is_committed(folder: str) -> bool:
    """Whether the folder holds a finished step."""
    return storage.exists(storage.join(folder, MARKER))


def find_step(name: str, out: str, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> StepResult | None:
    """The step that :func:`run_step` would give for these settings and inputs, if it is finished."""
    folder = _folder(name, out, step_key(name, settings, inputs))
    return StepResult(folder, read_manifest(folder), skipped=True) if is_committed(folder) else None


def run_step(
    name: str,
    out: str,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
    build: Callable[[str], Mapping[str, Any]],
    seed: int | None = None,
    keep_partial: bool = False,
    unlisted: tuple[str, ...] = (),
) -> StepResult:
    """Do a step unless it is done: make its folder, build it, list its files, commit it.

    Args:
        name: the step's name, e.g. ``tokens``.
        out: the folder or URI below which the step's folder lies.
        settings: all that the result depends on besides the inputs; JSON values.
        inputs: what the step reads, each with its hash.
        build: makes the data files below the folder that it is given and returns the counts.
        seed: the seed used, for the manifest.
        keep_partial: keep what an interrupted run left (the builder resumes from it) instead of removing it.
        unlisted: sub-folders whose files are not part of the result (checkpoints, logs).

    Raises:
        KoalaError: ``out`` can't be written.
    """
    if found := find_step(name, out, settings, inputs):
        return found
    key = step_key(name, settings, inputs)
    folder = _folder(name, out, key)
    if not keep_partial:
        storage.remove_tree(folder)
    storage.check_writable(folder)
    started = time.monotonic()
    counts = dict(build(folder))
    seconds = round(time.monotonic() - started, 3)

    def commit() -> StepResult:
        files = [
            {"path": file.relative, "size": file.size, "sha256": storage.sha256(file.uri)}
            for file in storage.list_files(folder)
            if not file.relative.startswith(unlisted) and file.relative not in (MANIFEST, MARKER)
        ]
        content = hashlib.sha256(canonical([[file["path"], file["sha256"]] for file in files])).hexdigest()
        manifest = Manifest(
            step=name,
            key=key,
            content_hash=content,
            settings=dict(settings),
            inputs=dict(inputs),
            counts=counts,
            files=files,
            seed=seed,
            seconds=seconds,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
        )
        data = json.dumps(asdict(manifest), indent=1, sort_keys=True, ensure_ascii=False).encode()
        storage.write_atomic(storage.join(folder, MANIFEST), data)
        storage.write_atomic(storage.join(folder, MARKER), hashlib.sha256(data).hexdigest().encode() + b"\n")
        # As every later run reads it, keys in order: what is made of it must not depend on which run made it.
        return StepResult(folder, Manifest(**json.loads(data)), skipped=False)

    return outlast(commit, say)


def _folder(name: str, out: str, key: str) -> str:
    return storage.join(storage.absolute(out), f"{name}-{key[:12]}")


def versions() -> dict[str, str]:
    """The versions of what a result may depend on."""
    found = {"koala-ray": __version__, "python": platform.python_version()}
    for package in VERSIONS_OF:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
