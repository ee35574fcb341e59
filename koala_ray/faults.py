"""What goes wrong with storage: how often a request is tried again, and the errors that say how to mend it."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar, cast

from koala_ray.errors import KoalaError, StorageFailure

ATTEMPTS = 5
"""How often one request to S3 is sent at most, unless ``AWS_MAX_ATTEMPTS`` is set."""
BODY_ATTEMPTS = 3
"""How often a request is made anew whose answer broke off or stalled. It multiplies the tries above: s3fs
repeats what botocore gave up on, twice over while it reads. With its own 5, a dead endpoint would hold up for hours."""
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30
"""Seconds until a connection must stand, and in which some byte must come."""
T = TypeVar("T")
OUTAGE_SECONDS = 600.0
"""How long the end of a long job is tried again while its storage fails."""
LONGEST_PAUSE = 30.0
"""Seconds between two such tries at most."""
CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google")
"""The packages whose errors say that an object store can't be used."""


def is_remote(uri: str) -> bool:
    """Whether the path names an object store rather than a folder of this machine."""
    return "://" in uri and not uri.startswith("file://")


def s3_options() -> dict[str, Any]:
    """What s3fs is opened with. It names the file system in fsspec's cache, and goes with it to Ray's workers."""
    from fsspec.config import conf

    retries = {
        "mode": os.environ.get("AWS_RETRY_MODE") or "standard",
        "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS") or ATTEMPTS),
    }
    own = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT, "retries": retries}
    # fsspec would let ours replace the user's whole dictionary.
    return {"config_kwargs": {**own, **conf.get("s3", {}).get("config_kwargs", {})}}


@contextmanager
def refuse_failing(uri: str) -> Iterator[None]:
    """Turn what an object store's client says when its retries are used up into an error that can be mended.

    Whatever runs inside must be the store's alone: any error of the operating system's kind is taken as its own.
    A local disk's errors, and that a file isn't there, pass unchanged.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        client = type(error).__module__.partition(".")[0] in CLIENTS
        if not is_remote(uri) or not (client or isinstance(error, OSError)):
            raise
        # Where s3fs made an OSError of the server's answer, that answer is its cause.
        said = " ".join(str(error if client else error.__cause__ or error).split())
        raise StorageFailure(
            f"this storage can't be used: {said or type(error).__name__}",
            where=uri,
            mend="check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, …), AWS_ENDPOINT_URL and the network, "
            "then run it again; a higher AWS_MAX_ATTEMPTS makes it try longer",
        ) from error


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


def outlast(work: Callable[[], T], told: Callable[[str], None], seconds: float = OUTAGE_SECONDS) -> T:
    """Do the last bit of a long job until its storage takes it, so that an outage doesn't cost the job its end.

    Args:
        work: may be done several times, the whole of it.
        told: hears of each failure.
        seconds: after which the storage's failure is the job's.

    Raises:
        StorageFailure: the storage still fails.
    """
    ends, pause = time.monotonic() + seconds, 1.0
    while True:
        try:
            return work()
        except StorageFailure as error:
            if time.monotonic() + pause > ends:
                raise
            told(f"{error.error}; trying again in {pause:.0f} s")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def guarded(file: IO[bytes], uri: str) -> io.RawIOBase:
    """An open file whose own failures are refused as its storage's; closing it leaves the file itself open."""
    return _Guarded(file, uri)


class _Guarded(io.RawIOBase):
    """An open file whose own failures, and only these, are refused as its storage's.

    What goes wrong with the content in the hands of whoever reads or makes it stays what it is.
    Closing it leaves the file itself open: whoever opened that decides what becomes of it.
    """

    def __init__(self, file: IO[bytes], uri: str) -> None:
        self._file, self._uri = file, uri

    def readable(self) -> bool:
        return self._file.readable()

    def writable(self) -> bool:
        return self._file.writable()

    def seekable(self) -> bool:
        return self._file.seekable()

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        with refuse_failing(self._uri):
            return int(cast(Any, self._file).readinto(buffer))

    def readall(self) -> bytes:
        with refuse_failing(self._uri):
            return self._file.read()

    def write(self, data: Any) -> int:
        with refuse_failing(self._uri), refuse_unwritable(self._uri):
            return self._file.write(data)
