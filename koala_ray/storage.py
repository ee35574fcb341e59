"""Files on a folder, ``s3://`` or ``gs://``, alike: open, list, write whole or not at all, remove.

Every path that a user gives goes through here. Object stores are reached by fsspec (s3fs, gcsfs) and
take their endpoint and keys from the usual environment variables, ``AWS_ENDPOINT_URL`` among them.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from koala_ray.errors import KoalaError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CHUNK = 1 << 20
CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google")
"""The packages whose errors say that an object store can't be reached."""
PART = ".part-"
"""How the name of a file begins that is being written; what a killed process leaves of one is never listed."""


@dataclass(frozen=True)
class StoredFile:
    """One file below a root: its full URI, its path relative to the root, its size in bytes."""

    uri: str
    relative: str
    size: int


def is_remote(uri: str) -> bool:
    """Whether the path names an object store rather than a folder of this machine."""
    return "://" in uri and not uri.startswith("file://")


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

    try:
        fs, path = url_to_fs(absolute(uri))
    except (ValueError, ImportError) as error:
        raise KoalaError(
            f"this kind of storage can't be opened: {error}",
            where=str(uri),
            mend="use a folder, s3://bucket/path or gs://bucket/path (gs needs: pip install 'koala-ray[gcs]')",
        ) from error
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
    fs.invalidate_cache()
    with _refuse_unreachable(uri):
        return bool(fs.exists(path))


def is_folder(uri: str) -> bool:
    """Whether the path is a folder (on object stores: a prefix with something below it).

    Raises:
        KoalaError: the object store can't be asked.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    with _refuse_unreachable(uri):
        return bool(fs.isdir(path))


@contextmanager
def _refuse_unreachable(uri: str) -> Iterator[None]:
    """Turn what an object store's client says of keys, rights and the network into an error that can be mended."""
    try:
        yield
    except Exception as error:
        client = type(error).__module__.partition(".")[0] in CLIENTS
        if not is_remote(uri) or not (client or isinstance(error, PermissionError)):
            raise
        raise KoalaError(
            f"this storage can't be reached: {str(error).strip() or type(error).__name__}",
            where=uri,
            mend="check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, …), AWS_ENDPOINT_URL and the network",
        ) from error


@contextmanager
def open_read(uri: str, compression: str | None = None) -> Iterator[IO[bytes]]:
    """A file to read as bytes; ``compression="infer"`` unpacks .gz and .zst by name."""
    fs, path = filesystem(uri)
    zstd = compression == "infer" and path.endswith((".zst", ".zstd"))
    with fs.open(path, "rb", compression=None if zstd else compression) as file:
        if zstd:  # fsspec has it only where a package of its own is installed
            import pyarrow as pa

            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as unpacked:
                yield unpacked
        else:
            yield file


@contextmanager
def open_write(uri: str) -> Iterator[IO[bytes]]:
    """A file to write as bytes. It may be seen half-written: use it only below an uncommitted step folder.

    Raises:
        KoalaError: the place can't be written.
    """
    fs, path = filesystem(uri)
    with refuse_unwritable(uri):
        if not is_remote(uri):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with fs.open(path, "wb") as file:
            yield file


def read_bytes(uri: str) -> bytes:
    """The whole content of a file."""
    with open_read(uri) as file:
        return file.read()


def write_atomic(uri: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or the one before.

    A local file is written beside its place, synced and renamed; an object store's single put is atomic.

    Raises:
        KoalaError: the place can't be written.
    """
    with refuse_unwritable(uri):
        if is_remote(uri):
            fs, path = filesystem(uri)
            fs.pipe_file(path, data)
            return
        path = absolute(uri)
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def check_writable(folder: str) -> None:
    """Refuse a folder that can't be written before any work is done for it: write a small file there, remove it.

    Raises:
        KoalaError: the folder can't be written.
    """
    probe = join(folder, f"{PART}probe-{uuid.uuid4().hex}")
    write_atomic(probe, b"")
    fs, path = filesystem(probe)
    fs.rm_file(path)


@contextmanager
def refuse_unwritable(uri: str) -> Iterator[None]:
    """Turn the operating system's refusal to write into an error that says how to mend it."""
    try:
        yield
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError, FileNotFoundError) as error:
        raise KoalaError(
            f"can't write: {error.strerror or error}",
            where=str(uri),
            mend="give a folder or bucket that you may write to with --out",
        ) from error
    except OSError as error:
        if error.errno in (28, 30):  # no space left; read-only file system
            raise KoalaError(
                f"can't write: {error.strerror}",
                where=str(uri),
                mend="free space there or give another --out",
            ) from error
        raise


def list_files(root: str, patterns: Iterable[str] = ("**",)) -> list[StoredFile]:
    """The files below a root that match any of the globs, each once, sorted by their relative path.

    ``*`` and ``?`` match within one path part, ``**`` across parts; ``**/`` also matches no part at all.
    """
    fs, base = filesystem(root)
    fs.invalidate_cache()
    base = base.rstrip("/")
    wanted = [_regex(pattern) for pattern in patterns]
    found: dict[str, StoredFile] = {}
    for path, info in fs.find(base, detail=True).items():
        relative = path[len(base) + 1 :] if path != base else posixpath.basename(path)
        if posixpath.basename(relative).startswith(PART):
            continue
        if any(pattern.fullmatch(relative) for pattern in wanted):
            uri = fs.unstrip_protocol(path) if is_remote(root) else path
            found[relative] = StoredFile(uri, relative, int(info["size"] or 0))
    return [found[name] for name in sorted(found)]


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
    if fs.exists(path):
        with refuse_unwritable(uri):
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
    fs, _ = filesystem(uri)
    for file in files:
        target = folder / file.relative
        if target.exists() and target.stat().st_size == file.size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        fs.get_file(fs._strip_protocol(file.uri), str(part))
        part.replace(target)
    return folder


def copy_from_local(folder: Path, uri: str) -> None:
    """Copy all files below a local folder to a URI, which may be local too."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with (
                open(path, "rb") as source,
                open_write(join(uri, path.relative_to(folder).as_posix())) as target,
            ):
                while chunk := source.read(CHUNK):
                    target.write(chunk)
