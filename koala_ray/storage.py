"""Files on a folder, ``s3://`` or ``gs://``, alike: open, list, write whole or not at all, remove.

Every path that a user gives goes through here. Object stores are reached by fsspec (s3fs, gcsfs) and
take their endpoint and keys from the usual environment variables, ``AWS_ENDPOINT_URL`` among them.

An S3 request that fails is tried again: ``AWS_MAX_ATTEMPTS`` and ``AWS_RETRY_MODE`` say how often and how, and
``FSSPEC_S3_CONFIG_KWARGS='{"read_timeout": 120}'`` sets what else botocore's ``Config`` takes. When all tries
have failed, each function raises a :class:`KoalaError` with what the endpoint said.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from koala_ray.errors import KoalaError
from koala_ray.faults import BODY_ATTEMPTS, guarded, is_remote, refuse_failing, refuse_unwritable, s3_options

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CHUNK = 1 << 20
PART = ".part-"
"""How the name of a file begins that is being written; what a killed process leaves of one is never listed."""


@dataclass(frozen=True)
class StoredFile:
    """One file below a root: its full URI, its path relative to the root, its size in bytes."""

    uri: str
    relative: str
    size: int
    version: str = ""
    """What the store says that changes with the content: an object's ETag, a local file's time."""


def absolute(uri: str | os.PathLike[str]) -> str:
    """The path in one form: an absolute local path, or a URI without a closing slash."""
    text = os.fspath(uri)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if is_remote(text):
        return text.rstrip("/")
    return os.path.abspath(os.path.expanduser(text))


def join(uri: str, *parts: str) -> str:
    """A path below another one, with forward slashes."""
    return posixpath.join(uri, *parts)


def filesystem(uri: str) -> tuple[AbstractFileSystem, str]:
    """The fsspec file system of a path, and the path as that file system spells it.

    Raises:
        KoalaError: the scheme is unknown or its package isn't installed.
    """
    from fsspec.core import url_to_fs

    s3 = absolute(uri).startswith(("s3://", "s3a://"))
    try:
        fs, path = url_to_fs(absolute(uri), **(s3_options() if s3 else {}))
    except (ValueError, ImportError) as error:
        raise KoalaError(
            f"this kind of storage can't be opened: {error}",
            where=str(uri),
            mend="use a folder, s3://bucket/path or gs://bucket/path (gs needs: pip install 'koala-ray[gcs]')",
        ) from error
    if s3:
        fs.retries = BODY_ATTEMPTS  # s3fs has no option for it
    return fs, path


def arrow_filesystem(uri: str) -> tuple[Any, str]:
    """The same file system for pyarrow and Ray, and the path without its scheme."""
    import pyarrow.fs as pafs

    if is_remote(uri):
        fs, path = filesystem(uri)
        return pafs.PyFileSystem(pafs.FSSpecHandler(fs)), path
    return pafs.LocalFileSystem(), absolute(uri)


def exists(uri: str) -> bool:
    """Whether a file or folder is there.

    Raises:
        KoalaError: the object store can't be asked.
    """
    fs, path = filesystem(uri)
    if not is_remote(uri):
        return bool(fs.exists(path))
    fs.invalidate_cache()
    with refuse_failing(uri):
        try:
            fs.info(path)  # s3fs's own `exists` takes any failure to ask for a bucket as a no
        except FileNotFoundError:
            return False
        return True


def is_folder(uri: str) -> bool:
    """Whether the path is a folder (on object stores: a prefix with something below it).

    Raises:
        KoalaError: the object store can't be asked.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    with refuse_failing(uri):
        return bool(fs.isdir(path))


@contextmanager
def open_read(uri: str, compression: str | None = None) -> Iterator[IO[bytes]]:
    """A file to read as bytes; ``compression="infer"`` unpacks .gz and .zst by name.

    Raises:
        KoalaError: the object store fails, on opening it or while it is read.
    """
    fs, path = filesystem(uri)
    with refuse_failing(uri):
        opened = fs.open(path, "rb")
    with opened:
        file = io.BufferedReader(guarded(opened, uri), CHUNK) if is_remote(uri) else opened
        if compression == "infer" and path.endswith((".zst", ".zstd")):
            import pyarrow as pa

            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as unpacked:
                yield unpacked
        elif compression == "infer" and path.endswith(".gz"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(IO[bytes], unpacked)
        else:
            yield file


@contextmanager
def open_write(uri: str) -> Iterator[IO[bytes]]:
    """A file to write as bytes. A reader sees all of it or the one before: nothing of it if the block raises.

    A local file is written beside its place, synced and renamed; an object store shows a file when it is whole.

    Raises:
        KoalaError: the place can't be written, or the object store fails.
    """
    with (_uploaded if is_remote(uri) else _renamed)(uri) as file:
        yield cast(IO[bytes], guarded(file, uri))


@contextmanager
def _renamed(uri: str) -> Iterator[IO[bytes]]:
    fs, path = filesystem(uri)
    part = os.path.join(os.path.dirname(path), PART + uuid.uuid4().hex)
    with refuse_unwritable(uri):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = fs.open(part, "wb")
    try:
        with file:
            yield file
            with refuse_unwritable(uri):
                file.flush()
                os.fsync(file.fileno())
        with refuse_unwritable(uri):
            os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


@contextmanager
def _uploaded(uri: str) -> Iterator[IO[bytes]]:
    from fsspec.spec import AbstractBufferedFile

    fs, path = filesystem(uri)
    with refuse_failing(uri), refuse_unwritable(uri):
        file = fs.open(path, "wb")
    try:
        yield file
        with refuse_failing(uri), refuse_unwritable(uri):
            file.close()
    except BaseException:
        with suppress(Exception):  # the endpoint that failed may fail here too; parts of an upload aren't listed
            file.discard()
        if isinstance(file, AbstractBufferedFile):
            file.closed = True  # else its deletion would close it, which stores what was written so far
        raise


def read_bytes(uri: str) -> bytes:
    """The whole content of a file."""
    with open_read(uri) as file:
        return file.read()


def write_atomic(uri: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or the one before.

    Raises:
        KoalaError: the place can't be written.
    """
    with open_write(uri) as file:
        file.write(data)


def check_writable(folder: str) -> None:
    """Refuse a folder that can't be written before any work is done for it: write a small file there, remove it.

    Raises:
        KoalaError: the folder can't be written.
    """
    probe = join(folder, f"{PART}probe-{uuid.uuid4().hex}")
    write_atomic(probe, b"")
    fs, path = filesystem(probe)
    with refuse_failing(probe):
        fs.rm_file(path)


def list_files(root: str, patterns: Iterable[str] = ("**",)) -> list[StoredFile]:
    """The files below a root that match any of the globs, each once, sorted by their relative path.

    ``*`` and ``?`` match within one path part, ``**`` across parts; ``**/`` also matches no part at all.

    Raises:
        KoalaError: the object store can't be asked.
    """
    fs, base = filesystem(root)
    fs.invalidate_cache()
    base = base.rstrip("/")
    wanted = [_regex(pattern) for pattern in patterns]
    found: dict[str, StoredFile] = {}
    with refuse_failing(root):
        try:
            below = fs.find(base, detail=True)
        except FileNotFoundError:  # s3fs says so of a bucket
            below = {}
    for path, info in below.items():
        relative = path[len(base) + 1 :] if path != base else posixpath.basename(path)
        if posixpath.basename(relative).startswith(PART):
            continue
        if any(pattern.fullmatch(relative) for pattern in wanted):
            uri = fs.unstrip_protocol(path) if is_remote(root) else path
            version = info.get("ETag") or info.get("etag") or info.get("mtime") or ""
            found[relative] = StoredFile(uri, relative, int(info["size"] or 0), str(version))
    return [found[name] for name in sorted(found)]


def list_folders(root: str) -> list[str]:
    """The names of the folders right below a root, empty local ones too, sorted.

    Raises:
        KoalaError: the object store can't be asked.
    """
    fs, base = filesystem(root)
    fs.invalidate_cache()
    with refuse_failing(root):
        try:
            below = fs.ls(base, detail=True)
        except FileNotFoundError:
            return []
    return sorted(posixpath.basename(info["name"].rstrip("/")) for info in below if info["type"] == "directory")


def _regex(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression: fsspec's own refuses ``**.json``, and pathlib's matches no URIs."""
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    # re.split puts the literal pieces at even places and the wildcards between them.
    pieces = re.split(r"((?:(?<=/)|^)\*\*/|\*\*|\*|\?|\[[^]/]+\])", pattern)
    for place, piece in enumerate(pieces):
        if place % 2 == 0:
            pieces[place] = re.escape(piece)
        elif piece.startswith("["):
            listed = re.sub(r"([\\\[^])", r"\\\1", piece[1:-1])
            pieces[place] = f"[^/{listed[1:]}]" if listed.startswith("!") else f"[{listed}]"
        else:
            pieces[place] = meaning[piece]
    return re.compile("".join(pieces), re.DOTALL)


def remove_tree(uri: str) -> None:
    """Remove a folder with all that is below it; nothing happens if it isn't there."""
    fs, path = filesystem(uri)
    if exists(uri):
        with refuse_failing(uri), refuse_unwritable(uri):
            fs.rm(path, recursive=True)


def sha256(uri: str) -> str:
    """The sha256 of a file's bytes, in hex, read in chunks."""
    digest = hashlib.sha256()
    with open_read(uri) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def copy_to_local(uri: str, folder: Path) -> Path:
    """Copy all files below a URI into a local folder and return it; files of the same size stay.

    Raises:
        KoalaError: nothing is there.
    """
    files = list_files(uri)
    if not files:
        raise KoalaError("nothing is stored there", where=uri, mend="check the address and the credentials")
    for file in files:
        target = folder / file.relative
        if target.exists() and target.stat().st_size == file.size:
            continue
        # Not fsspec's own download: of large files it doesn't repeat a part that breaks off.
        with open_read(file.uri) as source, open_write(str(target)) as copy:
            shutil.copyfileobj(source, copy, CHUNK)
    return folder


def copy_tree(source: str, target: str) -> None:
    """Copy all files below a folder or URI to another, through this machine."""
    for file in list_files(source):
        with open_read(file.uri) as read, open_write(join(target, file.relative)) as copy:
            shutil.copyfileobj(read, copy, CHUNK)
