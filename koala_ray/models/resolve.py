"""A recipe's base model, or one that is asked → a local folder from which transformers loads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from koala_ray import storage
from koala_ray.errors import KoalaError, StorageFailure
from koala_ray.home import cached_folder, private_folder
from koala_ray.models import bundled, merge
from koala_ray.models.adapter import CONFIG, Adapter, files_read, is_adapter, read_adapter

TRAINED = "model"
"""The sub-folder of a train step's folder that holds the Hugging Face model."""
KINDS = f"a folder, an s3:// folder, a Hugging Face id, or one of {', '.join(bundled.BUILDERS)}"


def resolve(base: str) -> str:
    """A local folder from which transformers loads the model.

    Bundled models are built once into the cache, ``s3://`` and ``gs://`` folders are copied to it. A train
    step's folder stands for the model that it made. An adapter by itself stands for its base model with the adapter
    merged into it, once, in the cache.

    Raises:
        KoalaError: there is no such model, or an adapter can't be merged.
    """
    folder = _folder(base)
    if not is_adapter(folder):
        return folder
    return _merged(Path(folder), base if storage.is_remote(base) or _is_hub_id(base) else folder)


def check(base: str) -> None:
    """Refuse a model that isn't there, as far as can be told without building, copying or downloading one.

    Raises:
        KoalaError: there is no such model.
    """
    _check(base, ())


def lasting_name(base: str) -> str:
    """The model's name as it is right in any working folder: a local folder's whole path, others as they are."""
    return storage.absolute(base) if base not in bundled.BUILDERS and storage.is_folder(base) else base


def _folder(base: str) -> str:
    """The local folder with the files of a model, or of an adapter."""
    if base in bundled.BUILDERS:
        return str(cached_folder(f"models/{base}-{bundled.VERSION}", bundled.BUILDERS[base]))
    if storage.is_remote(base):
        uri = _model_folder(base)
        # The listing, too: a model that has been written anew is copied anew.
        listing = [(file.relative, file.size, file.version) for file in storage.list_files(uri)]
        name = hashlib.sha256(f"{uri} {listing}".encode()).hexdigest()[:16]
        return str(cached_folder(f"models/remote-{name}", lambda folder: storage.copy_to_local(uri, folder)))
    if _is_hub_id(base):
        return _hub_folder(base)
    return _local_folder(base)


def _merged(folder: Path, place: str) -> str:
    """The cached model that an adapter makes of its base; its name is of the content of both."""
    adapter = read_adapter(str(folder), place)
    if adapter.revision not in (None, "main") and _is_hub_id(adapter.base):
        raise KoalaError(
            f"the adapter belongs to the revision {adapter.revision} of {adapter.base}",
            where=adapter.config,
            mend=f"download it (`hf download {adapter.base} --revision {adapter.revision} --local-dir DIR`) and "
            f"{adapter.another_base}",
        )
    _check(place, ())
    with _asked_for_by(adapter):
        base = resolve(adapter.base)
    before = _sha256_of(folder, files_read(folder))
    name = hashlib.sha256(f"{merge.VERSION} {before} {fingerprint(base)}".encode()).hexdigest()[:16]

    def build(into: Path) -> None:
        merge.merge(adapter, folder, Path(base), into)
        if _sha256_of(folder, files_read(folder)) != before:
            raise KoalaError("the adapter was changed while it was merged", where=place, mend="try again")

    return str(cached_folder(f"models/merged-{name}", build))


def _check(base: str, above: tuple[str, ...]) -> None:
    """See :func:`check`; ``above`` are the adapters that the model is the base of."""
    if storage.is_remote(base):
        place = _model_folder(base)
    elif base not in bundled.BUILDERS and not _is_hub_id(base):
        place = _local_folder(base)
    else:
        return
    if not is_adapter(place):
        return
    adapter = read_adapter(place, place)
    if place in above:
        raise KoalaError("the adapter is its own base", where=adapter.config, mend=adapter.another_base)
    with _asked_for_by(adapter):
        _check(adapter.base, (*above, place))


@contextmanager
def _asked_for_by(adapter: Adapter) -> Iterator[None]:
    """Say of a base that isn't there whose it is."""
    try:
        yield
    except StorageFailure:
        raise
    except KoalaError as error:
        raise KoalaError(
            f"the adapter's base model {adapter.base} can't be had: {error.error}",
            where=adapter.config,
            mend=f"{adapter.another_base}: {KINDS}",
        ) from error


def _is_hub_id(base: str) -> bool:
    return base.count("/") == 1 and not base.startswith((".", "/", "~")) and not Path(base).is_dir()


def _local_folder(base: str) -> str:
    path = Path(base).expanduser()
    if path.is_dir():
        return _model_folder(str(path.resolve()))
    raise KoalaError(
        "the base model is not there",
        where=base,
        mend=f"give {KINDS}",
    )


def fingerprint(base: str) -> str:
    """sha256 over the model's files, names and bytes."""
    folder = Path(resolve(base))
    return _sha256_of(folder, sorted(path for path in folder.rglob("*") if not path.name.startswith(".")))


def _sha256_of(folder: Path, files: Sequence[Path]) -> str:
    """sha256 over a folder's files, names and bytes.

    Reading 26 GB takes half a minute, so the result is kept beside the files' sizes and times, and read again only
    when one of these has changed.
    """
    files = [path for path in files if path.is_file()]
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
        if is_adapter(candidate):
            return candidate
    raise KoalaError(
        f"this folder holds no model (no config.json) and no adapter (no {CONFIG})",
        where=folder,
        mend="give the folder of a Hugging Face model, or of a LoRA adapter",
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
