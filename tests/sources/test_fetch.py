"""Fetching over real HTTP from servers that behave and servers that don't, to a folder and to S3."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from faulty_s3 import FOREVER, FaultyS3, through
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import new_bucket
from publisher import Publisher, Served

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.sources import fetch as fetching
from koala_ray.sources.base import PublicFile, Source
from koala_ray.sources.fetch import fetch

DATA = bytes(range(256)) * 2000
OTHER = DATA[::-1]


@pytest.fixture(scope="module")
def server() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def publisher(server: Publisher) -> Publisher:
    server.files.clear()
    server.log.clear()
    return server


@pytest.fixture(autouse=True)
def quick_and_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetching, "BACKOFF", 0.001)
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def source_of(*urls: str) -> Source:
    return Source(
        name="hc3",
        title="HC3 English",
        licence="CC-BY-SA-4.0",
        citation="Guo et al., 2023",
        home="https://example.org/hc3",
        published="about 24K questions",
        published_rows=87_000,
        published_kept=None,
        files=tuple(PublicFile(url, f"hc3/{url.rpartition('/')[2]}") for url in urls),
        parse=lambda value, seed: iter(()),
    )


def one(publisher: Publisher, served: Served) -> Source:
    """A source of one file, which the server has."""
    publisher.files["/all.jsonl"] = served
    return source_of(f"{publisher.url}/all.jsonl")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(root: str) -> bytes:
    return storage.read_bytes(f"{root}/hc3/all.jsonl")


def visible(root: str) -> list[str]:
    return [file.relative for file in storage.list_files(root)]


def leftovers(root: str) -> list[Path]:
    """Parts of downloads, wherever they are."""
    places = [Path(os.environ["KOALA_RAY_HOME"]), *([] if storage.is_remote(root) else [Path(root)])]
    return [path for place in places for path in place.rglob(f"{storage.PART}*") if path.is_file()]


def test_the_files_come_with_a_record_and_a_rerun_asks_nobody(
    root: str, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.files |= {"/all.jsonl": Served(DATA), "/x/more.json": Served(OTHER, '"two"')}
    source = source_of(f"{publisher.url}/all.jsonl", f"{publisher.url}/x/more.json")
    figures = fetch(source, root)
    said = capsys.readouterr().err
    assert said.index("CC-BY-SA-4.0") < said.index("Guo et al., 2023") < said.index("hc3/all.jsonl")
    assert storage.read_bytes(f"{root}/hc3/all.jsonl") == DATA
    assert storage.read_bytes(f"{root}/hc3/more.json") == OTHER
    assert visible(root) == ["hc3/FETCHED", "hc3/all.jsonl", "hc3/more.json"]
    found = storage.list_files(root, source.usual_names)
    assert [file.relative for file in found] == ["hc3/all.jsonl", "hc3/more.json"], "the record is no raw file"
    assert leftovers(root) == []
    assert (figures["source"], figures["folder"], figures["bytes"]) == ("hc3", f"{root}/hc3", 2 * len(DATA))
    first = figures["files"][0]
    assert (first["name"], first["url"]) == ("hc3/all.jsonl", f"{publisher.url}/all.jsonl")
    assert (first["size"], first["sha256"], first["kept"]) == (len(DATA), sha256(DATA), False)
    record = json.loads(storage.read_bytes(f"{root}/hc3/FETCHED"))
    assert (record["licence"], record["citation"]) == (source.licence, source.citation)
    assert [{**entry, "kept": False} for entry in record["files"]] == figures["files"]
    asked = len(publisher.log)
    again = fetch(source, root)
    assert len(publisher.log) == asked
    assert (again["bytes"], [file["kept"] for file in again["files"]]) == (0, [True, True])
    assert json.loads(storage.read_bytes(f"{root}/hc3/FETCHED")) == record


def test_a_connection_that_breaks_is_gone_on_with(root: str, publisher: Publisher) -> None:
    source = one(publisher, Served(DATA, cuts=[100_000, 50_000, 0]))
    fetch(source, root)
    assert content(root) == DATA
    assert [asked.range for asked in publisher.log] == ["", "bytes=100000-", "bytes=150000-", "bytes=150000-"]
    assert [asked.status for asked in publisher.log] == [200, 206, 206, 206]


def test_a_later_run_goes_on_where_one_gave_up(root: str, publisher: Publisher) -> None:
    source = one(publisher, Served(DATA, cuts=[100_000] + [0] * fetching.TRIES))
    with pytest.raises(KoalaError, match="breaks off again and again, at last at 100,000 bytes") as caught:
        fetch(source, root)
    assert caught.value.where == source.files[0].url
    assert visible(root) == []
    asked = len(publisher.log)
    fetch(source, root)
    assert [one.range for one in publisher.log[asked:]] == ["bytes=100000-"]
    assert content(root) == DATA
    assert leftovers(root) == []


CHANGES = {
    "it says so": Served(OTHER, '"two"'),
    "it knows no ranges": Served(OTHER, '"two"', heeds_range=False),
    "it knows no If-Range": Served(OTHER, '"two"', heeds_if_range=False),
    "it knows no ranges, and has the same file": Served(DATA, heeds_range=False),
    "it is shorter than the part": Served(OTHER[:1000], '"two"', heeds_if_range=False),
    "it has no versions any more": Served(OTHER, ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_between_two_runs_starts_anew(tmp_path: Path, publisher: Publisher, change: str) -> None:
    root = str(tmp_path / "raw")
    source = one(publisher, Served(DATA, cuts=[100_000] + [0] * fetching.TRIES))
    with pytest.raises(KoalaError):
        fetch(source, root)
    publisher.files["/all.jsonl"] = CHANGES[change]
    fetch(source, root)
    assert content(root) == CHANGES[change].data


@pytest.mark.parametrize(
    ("etag", "headers", "ranges"),
    [
        ("", {}, ["", ""]),
        ('W/"weak"', {}, ["", ""]),
        ("", {"Last-Modified": "Mon, 03 Apr 2023 00:00:00 GMT"}, ["", "bytes=1000-"]),
    ],
)
def test_a_part_is_gone_on_with_only_if_its_version_is_known(
    tmp_path: Path, publisher: Publisher, etag: str, headers: dict[str, str], ranges: list[str]
) -> None:
    source = one(publisher, Served(DATA, etag, headers, cuts=[1000], heeds_if_range=False))
    fetch(source, str(tmp_path / "raw"))
    assert [asked.range for asked in publisher.log] == ranges
    assert content(str(tmp_path / "raw")) == DATA


@given(
    cuts=st.lists(st.integers(0, 3000), max_size=4),
    errors=st.lists(st.sampled_from([500, 502, 503, 429]), max_size=3),
    etag=st.sampled_from(['"one"', 'W/"one"', ""]),
    heeds_range=st.booleans(),
    size=st.integers(0, 2000),
)
@settings(max_examples=40, deadline=None)
def test_however_it_breaks_the_bytes_are_the_publishers(
    server: Publisher, cuts: list[int], errors: list[int], etag: str, heeds_range: bool, size: int
) -> None:
    source = one(server, Served(DATA[:size], etag, errors=errors, cuts=cuts, heeds_range=heeds_range))
    with TemporaryDirectory() as folder:
        fetch(source, folder)
        assert content(folder) == DATA[:size]
        assert sorted(os.listdir(f"{folder}/hc3")) == ["FETCHED", "all.jsonl"]


def test_a_killed_fetch_shows_nothing_and_the_next_goes_on(publisher: Publisher, tmp_path: Path) -> None:
    stall = threading.Event()
    source = one(publisher, Served(DATA, stall=stall))
    root = str(tmp_path / "raw")
    code = (
        "import sys; from koala_ray.sources.base import *; from koala_ray.sources.fetch import fetch; "
        f"fetch(Source('hc3', '', '', '', '', '', None, None, (PublicFile({source.files[0].url!r}, 'hc3/all.jsonl'),), "
        f"print), {root!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    part = Path(root, "hc3", f"{storage.PART}all.jsonl")
    try:
        for _ in range(1000):
            if part.exists() and part.stat().st_size > len(DATA) // 4:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        stall.set()
    assert visible(root) == []
    publisher.files["/all.jsonl"].stall = None
    had = part.stat().st_size
    assert had
    fetch(source, root)
    assert publisher.log[-1].range == f"bytes={had}-"
    assert content(root) == DATA


def test_a_passing_error_is_waited_out(root: str, publisher: Publisher) -> None:
    fetch(one(publisher, Served(DATA, errors=[503, 500, 429])), root)
    assert content(root) == DATA


REFUSALS = {
    503: ("the server fails", "again later"),
    404: ("not there any more", "example.org/hc3"),
    410: ("not there any more", "example.org/hc3"),
    401: ("who asks", "HF_TOKEN"),
    403: ("who asks", "HF_TOKEN"),
    400: ("refuses", "example.org/hc3"),
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_server_that_says_no_is_quoted(tmp_path: Path, publisher: Publisher, status: int) -> None:
    source = one(publisher, Served(DATA, errors=[status] * (fetching.TRIES + 1)))
    with pytest.raises(KoalaError) as caught:
        fetch(source, str(tmp_path))
    what, mend = REFUSALS[status]
    assert what in caught.value.error
    assert str(status) in caught.value.error
    assert mend in caught.value.mend
    assert str(tmp_path / "hc3" / "all.jsonl") in caught.value.mend
    assert caught.value.where == source.files[0].url
    assert "\n" not in caught.value.error + caught.value.mend
    assert visible(str(tmp_path)) == []


def test_a_page_in_place_of_the_file_is_refused(tmp_path: Path, publisher: Publisher) -> None:
    source = one(publisher, Served(b"<html>Sign in</html>", headers={"Content-Type": "text/html; charset=utf-8"}))
    with pytest.raises(KoalaError, match="a web page, not the file"):
        fetch(source, str(tmp_path))
    assert visible(str(tmp_path)) == []


def test_without_network_one_line_says_so(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/all.jsonl"
    with pytest.raises(KoalaError, match=r"no network to 127\.0\.0\.1: .*refused") as caught:
        fetch(source_of(url), str(tmp_path))
    assert caught.value.where == url
    assert f"put the file at {tmp_path}/hc3/all.jsonl by hand" in caught.value.mend
    assert "\n" not in caught.value.error + caught.value.mend
    assert " object at 0x" not in caught.value.error


def test_a_source_without_public_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KoalaError, match="no public files") as caught:
        fetch(source_of(), str(tmp_path / "raw"))
    assert f"{tmp_path}/raw/hc3" in caught.value.mend
    assert not (tmp_path / "raw").exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_asked(
    tmp_path: Path, publisher: Publisher
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KoalaError, match="can't write"):
        fetch(one(publisher, Served(DATA)), str(tmp_path / "file"))
    assert publisher.log == []


def test_a_stated_checksum_is_verified(root: str, publisher: Publisher) -> None:
    """As the Hugging Face hub does it: the answer that sends on to the file's place states its sha256."""
    publisher.files["/cdn"] = Served(DATA, '"else"', cuts=[1000])
    source = one(publisher, Served(b"", headers={"X-Linked-ETag": f'"{sha256(DATA)}"'}, moved_to="/cdn"))
    fetch(source, root)
    assert content(root) == DATA
    assert [asked.range for asked in publisher.log if asked.path == "/cdn"] == ["", "bytes=1000-"]


def test_a_wrong_checksum_is_an_error_and_the_part_goes(root: str, publisher: Publisher) -> None:
    source = one(publisher, Served(DATA, headers={"X-Linked-ETag": f'"{sha256(OTHER)}"'}))
    with pytest.raises(KoalaError) as caught:
        fetch(source, root)
    assert sha256(DATA) in caught.value.error
    assert sha256(OTHER) in caught.value.error
    assert (visible(root), leftovers(root)) == ([], [])
    publisher.files["/all.jsonl"] = Served(OTHER, headers={"X-Linked-ETag": f'"{sha256(OTHER)}"'})
    fetch(source, root)
    assert content(root) == OTHER


def test_the_hub_gets_the_token_and_may_be_elsewhere(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{publisher.url}/mirror/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    publisher.files["/mirror/datasets/a.jsonl"] = Served(DATA, f'"{sha256(DATA)}"')
    publisher.files["/b.jsonl"] = Served(OTHER, f'"{sha256(DATA)}"')  # elsewhere an ETag may be any digest
    fetch(source_of("https://huggingface.co/datasets/a.jsonl", f"{publisher.url}/b.jsonl"), str(tmp_path / "raw"))
    assert [asked.authorization for asked in publisher.log] == ["Bearer hf_secret", ""]
    publisher.files["/mirror/datasets/a.jsonl"] = Served(OTHER, f'"{sha256(DATA)}"')
    with pytest.raises(KoalaError, match="sha256"):
        fetch(source_of("https://huggingface.co/datasets/a.jsonl"), str(tmp_path / "other"))


def test_what_is_not_as_it_was_fetched_is_fetched_again(root: str, publisher: Publisher) -> None:
    source = one(publisher, Served(DATA))
    fetch(source, root)
    uri = f"{root}/hc3/all.jsonl"
    for damage in (DATA[:-1], DATA[:-1] + b"?"):
        storage.write_atomic(uri, damage)
        assert fetch(source, root)["bytes"] == len(DATA)
        assert content(root) == DATA
    storage.remove_tree(uri)
    assert not fetch(source, root)["files"][0]["kept"]
    assert content(root) == DATA


@pytest.mark.parametrize(
    ("there", "states", "kept"),
    [
        (DATA, True, True),
        (DATA, False, True),
        (OTHER, True, False),
        (OTHER, False, True),  # nothing but the size can be known of it
        (DATA[:-1], True, False),
        (DATA[:-1], False, False),
    ],
)
def test_a_file_put_there_by_hand_is_compared_with_the_servers(
    tmp_path: Path, publisher: Publisher, there: bytes, states: bool, kept: bool
) -> None:
    source = one(publisher, Served(DATA, headers={"X-Linked-ETag": sha256(DATA)} if states else {}))
    root = str(tmp_path / "raw")
    storage.write_atomic(f"{root}/hc3/all.jsonl", there)
    for record in (None, b"{not JSON", b'{"files": [1]}'):
        if record:
            storage.write_atomic(f"{root}/hc3/FETCHED", record)
            storage.write_atomic(f"{root}/hc3/all.jsonl", there)
        figures = fetch(source, root)
        assert figures["files"][0]["kept"] is kept
        assert content(root) == (there if kept else DATA)
        assert figures["files"][0]["sha256"] == sha256(content(root))


def test_two_fetches_of_one_file_do_not_mix(tmp_path: Path, publisher: Publisher) -> None:
    source = one(publisher, Served(DATA))
    part = tmp_path / "raw" / "hc3" / f"{storage.PART}all.jsonl"
    part.parent.mkdir(parents=True)
    with open(part, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(KoalaError, match="another fetch"):
            fetch(source, str(tmp_path / "raw"))
    fetch(source, str(tmp_path / "raw"))
    assert content(str(tmp_path / "raw")) == DATA


def test_an_upload_that_fails_is_repeated_without_another_download(
    s3_endpoint: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, root = one(publisher, Served(DATA)), new_bucket()
    with FaultyS3(s3_endpoint) as faulty, through(faulty, monkeypatch, attempts=1):
        faulty.fail("^PUT .*all.jsonl", times=FOREVER)
        with pytest.raises(KoalaError, match="InternalError"):
            fetch(source, root)
        assert visible(root) == []
        assert len(publisher.log) == 1
        faulty.clear()
        fetch(source, root)
    assert len(publisher.log) == 1
    assert content(root) == DATA
    assert leftovers(root) == []
