"""A recipe's base model → a local folder, or what transformers downloads by itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.home import cached_folder, private_folder
from koala_ray.models import bundled

TRAINED = "model"
"""The sub-folder of a train step's folder that holds the Hugging Face model."""


def resolve(base: str) -> str:
    """Where transformers finds the model: a local folder, or a Hugging Face id.

    Bundled models are built once into the cache, ``s3://`` and ``gs://`` folders are copied to it. A train
    step's folder stands for the model that it made.

    Raises:
        KoalaError: there is no such model.
    """
    if base in bundled.BUILDERS:
        return str(cached_folder(f"models/{base}-{bundled.VERSION}", bundled.BUILDERS[base]))
    if storage.is_remote(base):
        uri = _model_folder(base)
        # The listing, too: a model that has been written anew is copied anew.
        listing = [(file.relative, file.size) for file in storage.list_files(uri)]
        name = hashlib.sha256(f"{uri} {listing}".encode()).hexdigest()[:16]
        return str(cached_folder(f"models/remote-{name}", lambda folder: storage.copy_to_local(uri, folder)))
    if _is_hub_id(base):
        return _hub_folder(base)
    return _local_folder(base)


def check(base: str) -> None:
    """Refuse a model that isn't there, as far as can be told without building, copying or downloading one.

    Raises:
        KoalaError: there is no such model.
    """
    if storage.is_remote(base):
        _model_folder(base)
    elif base not in bundled.BUILDERS and not _is_hub_id(base):
        _local_folder(base)


def _is_hub_id(base: str) -> bool:
    return base.count("/") == 1 and not base.startswith((".", "/", "~")) and not Path(base).is_dir()


def _local_folder(base: str) -> str:
    path = Path(base).expanduser()
    if path.is_dir():
        return _model_folder(str(path.resolve()))
    raise KoalaError(
        "the base model is not there",
        where=base,
        mend=f"give a folder, an s3:// folder, a Hugging Face id, or one of {', '.join(bundled.BUILDERS)}",
    )


def fingerprint(base: str) -> str:
    """sha256 over the model's files, names and bytes.

    Reading 26 GB takes half a minute, so the result is kept beside the files' sizes and times, and read again only
    when one of these has changed.
    """
    folder = Path(resolve(base))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    stamps = [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    note = private_folder("fingerprints") / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if note.exists():
        kept = json.loads(note.read_bytes())
        if kept["files"] == stamps:
            return str(kept["sha256"])
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder)} {storage.sha256(str(path))}\n".encode())
    storage.write_atomic(str(note), json.dumps({"files": stamps, "sha256": digest.hexdigest()}).encode())
    return digest.hexdigest()


def _model_folder(folder: str) -> str:
    for candidate in (storage.join(folder, TRAINED), folder):
        config = storage.join(candidate, "config.json")
        if storage.exists(config):
            json.loads(storage.read_bytes(config))
            return candidate
    raise KoalaError(
        "this folder holds no model (no config.json)",
        where=folder,
        mend="give the folder of a Hugging Face model",
    )


def _hub_folder(base: str) -> str:
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(base, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"])
    except Exception as error:  # the hub's client raises a dozen kinds: offline, gated, unknown
        raise KoalaError(
            f"the base model can't be had from Hugging Face ({type(error).__name__})",
            where=base,
            mend="check the id, the network and `hf auth login`, or give a folder",
        ) from error
