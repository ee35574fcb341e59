"""Get the public files of a source or a prompt set from its publishers: whole, checked, and each only once.

A file is downloaded under a name that is never listed and takes its own when it is whole. A download that breaks
off goes on where it stopped, also in a later run, if the server still has the same file. What was fetched, with
size and sha256, is recorded beside the files; a rerun checks them against that record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from koala_ray import __version__, storage
from koala_ray.errors import KoalaError
from koala_ray.home import private_folder
from koala_ray.progress import Progress, say
from koala_ray.sources.base import PublicFile, Source
from koala_ray.sources.prompt_sets import PublicPrompts

if TYPE_CHECKING:
    from requests import Response, Session

TRIES = 5
"""How often a server's error is retried, and how often in a row a download may break off without going further."""
CONNECT_TRIES = 2
BACKOFF = 1.0
"""Seconds before a retry, doubled each time."""
LONGEST_WAIT = 60
TIMEOUTS = (10, 60)
"""Seconds until a connection must stand, and in which some byte must come."""
PASSING = (408, 429, 500, 502, 503, 504)
"""Answers that say: not now."""
HUB = "https://huggingface.co"
PIECE = 1 << 16
Publication = Source | PublicPrompts
"""What can be fetched: files under one licence, and whom to cite."""


@dataclass(frozen=True)
class Stated:
    """What a server says of a file."""

    url: str
    version: str
    """Its strong ETag, else its date; empty where it gives neither: then a part of it can't be gone on with."""
    size: int | None
    sha256: str
    """Empty where the server states none."""


@dataclass(frozen=True)
class _Wanted:
    """A file to get, where to, and over which connections."""

    session: Session
    source: Publication
    file: PublicFile
    uri: str

    def entry(self, size: int, sha256: str) -> dict[str, Any]:
        """The record of the file as it is there now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {"url": self.file.url, "size": size, "sha256": sha256, "fetched": now, "licence": self.source.licence}

    @property
    def by_hand(self) -> str:
        return f"or put the file at {self.uri} by hand"


class BrokenOff(Exception):
    """A download that ended before the file did. It can go on."""


def fetch(source: Publication, to: str) -> dict[str, Any]:
    """Download a source's or prompt set's files below ``TO``, check and record them; what is there and right stays.

    Returns:
        source, folder, licence, citation; files: each with name, url, size, sha256, fetched (when), licence and
        kept (it was there); bytes: the size of what was fetched now.

    Raises:
        KoalaError: the source has no public files, the network or a server fails, a checksum doesn't match, or
            the place can't be written.
    """
    root = storage.absolute(to)
    record_uri = storage.join(root, source.record)
    folder = os.path.dirname(record_uri)
    if not source.files:
        raise KoalaError(
            f"{source.title}: there are no public files of it", where=source.name, mend=f"put your own below {folder}"
        )
    say(f"{source.title}\n  licence  {source.licence}\n  cite     {source.citation}\n  home     {source.home}")
    storage.check_writable(folder)
    record = _read_record(record_uri)
    files: list[dict[str, Any]] = []
    with _session() as session:
        for file in source.files:
            wanted = _Wanted(session, source, file, storage.join(root, file.name))
            entry = _kept(wanted, record.get(file.name))
            kept = entry is not None
            entry = entry or _fetched(wanted)
            if entry != record.get(file.name):
                record[file.name] = entry
                _write_record(record_uri, source, record)
            say(f"  {file.name}  {entry['size']:,} bytes  {'is there, checked' if kept else 'fetched'}")
            files.append({"name": file.name, **entry, "kept": kept})
    return {
        "source": source.name,
        "folder": folder,
        "licence": source.licence,
        "citation": source.citation,
        "files": files,
        "bytes": sum(file["size"] for file in files if not file["kept"]),
    }


def _read_record(uri: str) -> dict[str, dict[str, Any]]:
    """What was fetched before, by name. A damaged record is as good as none: the servers are asked."""
    if not storage.exists(uri):
        return {}
    try:
        return {entry.pop("name"): entry for entry in json.loads(storage.read_bytes(uri))["files"]}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _write_record(uri: str, source: Publication, record: dict[str, dict[str, Any]]) -> None:
    about = {name: getattr(source, name) for name in ("name", "title", "licence", "citation", "home")}
    files = [{"name": name, **record[name]} for name in sorted(record)]
    text = json.dumps({**about, "files": files}, ensure_ascii=False, indent=2)
    storage.write_atomic(uri, f"{text}\n".encode())


def _kept(wanted: _Wanted, known: dict[str, Any] | None) -> dict[str, Any] | None:
    """The record of a file that is there and right; None where it must be fetched.

    Right is what has the sha256 that it is known to have. Else, without a record of it, it is what has the size and, if
    it states one, the sha256 that the server states.
    """
    there = storage.list_files(wanted.uri)
    if not there:
        return None
    size = there[0].size
    if wanted.file.sha256:
        if storage.sha256(wanted.uri) == wanted.file.sha256:
            entry = wanted.entry(size, wanted.file.sha256)
            return known if known and known | {"fetched": ""} == entry | {"fetched": ""} else entry
        say(f"  {wanted.file.name} is not what was published: it is fetched again")
        return None
    if known and known.get("url") == wanted.file.url:
        if size == known.get("size") and storage.sha256(wanted.uri) == known.get("sha256"):
            return known
        say(f"  {wanted.file.name} is not what was fetched before: it is fetched again")
        return None
    with _ask(wanted) as answer:
        stated = _stated(wanted.file.url, answer)
    if size == stated.size:
        sha256 = storage.sha256(wanted.uri)
        if stated.sha256 in ("", sha256):
            return wanted.entry(size, sha256)
    say(f"  {wanted.file.name} is not what the server has: it is fetched again")
    return None


def _fetched(wanted: _Wanted) -> dict[str, Any]:
    """Download a file to its place and return its record."""
    part = _part(wanted.uri)
    state = part.with_name(f"{part.name}.state")
    with storage.refuse_unwritable(str(part)):
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab") as out:
            _lock(out, part, wanted.uri)
            stated = _fill(wanted, out, state)
            out.flush()
            os.fsync(out.fileno())
            size, sha256 = os.path.getsize(part), storage.sha256(str(part))
            expected = wanted.file.sha256 or stated.sha256
            if expected not in ("", sha256):
                part.unlink()
                state.unlink()
                known = "was published" if wanted.file.sha256 else "the server states"
                raise KoalaError(
                    f"what came has another sha256 ({sha256}) than {known} ({expected})",
                    where=wanted.file.url,
                    mend="run it again to download it anew; if that doesn't help, the file is damaged there: tell "
                    f"its publisher ({wanted.source.home})",
                )
            if storage.is_remote(wanted.uri):
                _upload(part, wanted.uri, size)
                part.unlink()
            else:
                os.replace(part, wanted.uri)
            state.unlink()
    return wanted.entry(size, sha256)


def _part(uri: str) -> Path:
    """Where a file is until it is whole: beside its place, or on this machine if that is in an object store."""
    name = f"{storage.PART}{os.path.basename(uri)}"
    if storage.is_remote(uri):
        return private_folder("fetch", hashlib.sha256(uri.encode()).hexdigest()[:16]) / name
    return Path(uri).with_name(name)


def _lock(out: IO[bytes], part: Path, uri: str) -> None:
    """Make sure that nobody else writes this part: the operating system lets go of a lock when its holder dies."""
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(out.fileno()), part.stat()):  # else its holder has just moved it to its place
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise KoalaError("another fetch is at work on this file", where=uri, mend="run it again when that has ended")


def _upload(part: Path, uri: str, size: int) -> None:
    with open(part, "rb") as source, storage.open_write(uri) as target, Progress("upload", size, "bytes") as bar:
        while chunk := source.read(storage.CHUNK):
            target.write(chunk)
            bar.update(source.tell())


def _fill(wanted: _Wanted, out: IO[bytes], state: Path) -> Stated:
    """Download into a part until it is whole, going on after each break."""
    furthest, stalled = os.fstat(out.fileno()).st_size, 0
    with Progress(os.path.basename(wanted.file.name), None, "bytes") as bar:
        while True:
            try:
                return _go_on(wanted, out, state, bar)
            except BrokenOff as error:
                out.flush()
                have = os.fstat(out.fileno()).st_size
                furthest, stalled = max(furthest, have), 0 if have > furthest else stalled + 1
                if stalled == TRIES:
                    raise KoalaError(
                        f"the download breaks off again and again, at last at {have:,} bytes: {error}",
                        where=wanted.file.url,
                        mend=f"run it again later: it goes on where it stopped; {wanted.by_hand}",
                    ) from error
                time.sleep(min(BACKOFF * 2**stalled, LONGEST_WAIT))


def _go_on(wanted: _Wanted, out: IO[bytes], state: Path, bar: Progress) -> Stated:
    """Ask once: for what a part lacks if the server still has the same file, else for the whole."""
    have = os.fstat(out.fileno()).st_size
    known = _read_state(state, wanted.file.url)
    if known and known.size == have:
        return known
    headers = {"Range": f"bytes={have}-", "If-Range": known.version} if known and known.version and have else {}
    with _ask(wanted, headers) as answer:
        stated = _stated(wanted.file.url, answer)
        whole = answer.status_code == 200
        if whole or stated != known or _first_byte(answer) != have:
            out.truncate(0)
            have = 0
            state.write_text(json.dumps(asdict(stated)) if whole else "")
            if not whole:
                raise BrokenOff("the server has another file now")
        bar.total = stated.size
        bar.start_at(have)
        for piece in _pieces(answer):
            out.write(piece)
            have += len(piece)
            bar.update(have)
    return stated


def _read_state(state: Path, url: str) -> Stated | None:
    """What the server said of the file that a part is of; None where that isn't known."""
    try:
        known = Stated(**json.loads(state.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.url == url else None


def _pieces(answer: Response) -> Iterator[bytes]:
    """The body as it comes over the network, never unpacked: raw files keep their publisher's bytes."""
    from urllib3.exceptions import HTTPError

    try:
        yield from answer.raw.stream(PIECE, decode_content=False)
    except (HTTPError, OSError) as error:
        raise BrokenOff(" ".join(str(error).split())) from error


def _session() -> Session:
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    retries = Retry(
        total=None,
        connect=CONNECT_TRIES,
        read=TRIES,
        status=TRIES,
        status_forcelist=PASSING,
        backoff_factor=BACKOFF,
        backoff_max=LONGEST_WAIT,
        retry_after_max=LONGEST_WAIT,
        raise_on_status=False,
    )
    session = Session()
    session.headers.update({"User-Agent": f"koala-ray/{__version__}", "Accept-Encoding": "identity"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


@contextmanager
def _ask(wanted: _Wanted, headers: dict[str, str] | None = None) -> Iterator[Response]:
    """The server's answer before its body is read: the file, a part of it, or that there is no such part.

    Raises:
        KoalaError: it can't be reached, or says no.
    """
    from requests import RequestException

    url, asked = wanted.file.url, dict(headers or {})
    if url.startswith(f"{HUB}/"):
        from huggingface_hub import get_token

        url = os.environ.get("HF_ENDPOINT", HUB).rstrip("/") + url.removeprefix(HUB)
        if token := get_token():
            asked["Authorization"] = f"Bearer {token}"
    try:
        answer = wanted.session.get(url, headers=asked, stream=True, timeout=TIMEOUTS)
    except RequestException as error:
        raise KoalaError(
            f"no network to {urlsplit(url).hostname}: {_reason(error)}",
            where=url,
            mend=f"check the network, HTTPS_PROXY and HF_ENDPOINT, then run it again; {wanted.by_hand}",
        ) from error
    with answer:
        if refusal := _refusal(answer, wanted.source):
            raise KoalaError(refusal[0], where=url, mend=f"{refusal[1]}; {wanted.by_hand}")
        yield answer


def _refusal(answer: Response, source: Publication) -> tuple[str, str] | None:
    """What an answer says that brings no file, and how to mend it; None where it brings one."""
    status = answer.status_code
    said = f"{status} {answer.reason}"
    if status in (401, 403):
        return f"the server wants to know who asks ({said})", f"agree to the terms at {source.home} and set HF_TOKEN"
    if status in (404, 410):
        return f"the file is not there any more ({said})", f"see {source.home} for where it went"
    if status in PASSING:
        return f"the server fails ({said}), {TRIES + 1} times in a row", "run it again later"
    if status not in (200, 206, 416):
        return f"the server refuses ({said})", f"see {source.home}"
    if status == 200 and answer.headers.get("Content-Type", "").startswith("text/html"):
        return "the server sent a web page, not the file", "open the address: it may ask for a login, or be a proxy's"
    return None


def _reason(error: Exception) -> str:
    """The innermost cause in words, without the objects that stand around it."""
    inner: Any = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", None) or inner)
    return " ".join(text.split(": ", 1)[-1].split())


def _stated(url: str, answer: Response) -> Stated:
    """What the answer's headers say of the whole file.

    The Hugging Face hub names the sha256 of a large file in ``X-Linked-ETag`` when it sends on to where that lies,
    or in its ETag; other servers' ETags mean nothing that can be checked.
    """
    asked, *_ = chain = [*answer.history, answer]
    tags = [one.headers.get("X-Linked-ETag", "") for one in chain]
    if url.startswith(f"{HUB}/"):
        tags.append(asked.headers.get("ETag", ""))
    sums = [found[1] for tag in tags if (found := re.fullmatch(r'"?([0-9a-f]{64})"?', tag))]
    tag = answer.headers.get("ETag", "W/")
    version = answer.headers.get("Last-Modified", "") if tag.startswith("W/") else tag
    length = answer.headers.get("Content-Length", "")
    if answer.status_code == 206:
        length = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return Stated(url, version, int(length) if length.isdecimal() else None, sums[0] if sums else "")


def _first_byte(answer: Response) -> int | None:
    """Where a partial answer begins."""
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None
