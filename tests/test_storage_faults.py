"""Storage on an S3 endpoint that fails, stalls and breaks off: retried, then refused, and nothing half-written."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import pickle
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_s3 import FOREVER, FaultyS3, through
from fsspec.config import conf
from object_store import new_bucket

from koala_ray import faults, storage, tables
from koala_ray.errors import KoalaError, StorageFailure
from koala_ray.faults import outlast
from koala_ray.sources.raw import RawFault, read_rows
from koala_ray.steps import is_committed, read_manifest, run_step

DATA = bytes(range(256)) * 1000
PART_SIZE = 5 << 20
"""The smallest part of an upload that S3 takes."""


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str) -> str:
    """A prefix with one file, ``file``; tests write under other names."""
    root = new_bucket()
    storage.write_atomic(storage.join(root, "file"), DATA)
    return root


@pytest.fixture(scope="module")
def proxy(s3_endpoint: str, bucket: str) -> Iterator[FaultyS3]:
    with FaultyS3(s3_endpoint) as faulty, pytest.MonkeyPatch.context() as patch, through(faulty, patch, attempts=1):
        yield faulty


@pytest.fixture
def hasty(proxy: FaultyS3) -> Iterator[FaultyS3]:
    """The proxy where each request is sent once."""
    proxy.clear()
    yield proxy
    proxy.clear()


@pytest.fixture
def patient(hasty: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> FaultyS3:
    """The proxy where each request is sent twice at most."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    return hasty


def read(bucket: str) -> bytes:
    return storage.read_bytes(f"{bucket}/file")


def write(bucket: str) -> None:
    storage.write_atomic(f"{bucket}/written", DATA)


def write_in_pieces(bucket: str) -> None:
    with storage.open_write(f"{bucket}/written") as file:
        for start in range(0, len(DATA), 100_000):
            file.write(DATA[start : start + 100_000])


HEALED: dict[str, tuple[Callable[[FaultyS3], None], Callable[[str], object], object]] = {
    "read, 500 to HEAD": (lambda faulty: faulty.fail("^HEAD"), read, DATA),
    "read, 503 to GET": (lambda faulty: faulty.fail("^GET", status=503), read, DATA),
    "read, refused": (lambda faulty: faulty.refuse("^GET"), read, DATA),
    "read, cut twice": (lambda faulty: faulty.cut("^GET", after=70_000, times=2), read, DATA),
    "read, cut before the first byte": (lambda faulty: faulty.cut("^GET"), read, DATA),
    "exists, 503": (lambda faulty: faulty.fail(status=503), lambda b: storage.exists(f"{b}/file"), True),
    "is_folder, 500": (lambda faulty: faulty.fail("list-type"), storage.is_folder, True),
    "list, cut": (
        lambda faulty: faulty.cut("list-type", after=50),
        lambda b: [file.relative for file in storage.list_files(b, ["file"])],
        ["file"],
    ),
    "sha256, cut": (
        lambda faulty: faulty.cut("^GET", after=1),
        lambda b: storage.sha256(f"{b}/file"),
        hashlib.sha256(DATA).hexdigest(),
    ),
    "write, 500": (lambda faulty: faulty.fail("^PUT"), write, None),
    "write, cut": (lambda faulty: faulty.cut("^PUT", after=1000), write, None),
    "write in pieces, 503": (lambda faulty: faulty.fail("^PUT", status=503), write_in_pieces, None),
}


@pytest.mark.parametrize("case", HEALED)
def test_a_passing_fault_is_not_noticed(patient: FaultyS3, bucket: str, case: str) -> None:
    misbehave, use, expected = HEALED[case]
    misbehave(patient)
    assert use(bucket) == expected
    assert [request for request in patient.requests if request.fault], "the fault never came"
    if expected is None:
        assert storage.read_bytes(f"{bucket}/written") == DATA
        storage.remove_tree(f"{bucket}/written")


REFUSED: dict[str, Callable[[str], object]] = {
    "exists": lambda uri: storage.exists(uri),
    "exists, the bucket": lambda uri: storage.exists(uri.partition("/koala")[0]),
    "is_folder": lambda uri: storage.is_folder(uri),
    "list_files": lambda uri: storage.list_files(uri),
    "read_bytes": lambda uri: storage.read_bytes(uri),
    "sha256": lambda uri: storage.sha256(uri),
    "write_atomic": lambda uri: storage.write_atomic(uri, DATA),
    "write_atomic, nothing": lambda uri: storage.write_atomic(uri, b""),
    "check_writable": lambda uri: storage.check_writable(uri),
    "remove_tree": lambda uri: storage.remove_tree(uri),
    "copy_to_local": lambda uri: storage.copy_to_local(uri, Path("/nonexistent")),
}


@pytest.mark.parametrize("status", [500, 403])
def test_a_lasting_fault_is_refused_with_what_the_server_said(hasty: FaultyS3, bucket: str, status: int) -> None:
    hasty.fail(times=FOREVER, status=status)
    for name, use in REFUSED.items():
        hasty.requests.clear()
        with pytest.raises(KoalaError) as caught:
            use(f"{bucket}/file")
        # The answer to a HEAD has no body: the client makes up the words for it.
        assert re.search(f"told to fail with {status}|[(]{status}[)]", caught.value.error), (name, caught.value.error)
        assert caught.value.where.startswith(bucket.partition("/koala")[0]), name
        assert caught.value.mend
        assert "\n" not in caught.value.error
        assert len(hasty.requests) == 1, name


def test_an_endpoint_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, hasty: FaultyS3) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")  # another file system than the one with the proxy's address
    for use in (storage.exists, storage.read_bytes, storage.list_files):
        with pytest.raises(KoalaError, match="Could not connect") as caught:
            use("s3://some-bucket/file")
        assert "AWS_ENDPOINT_URL" in caught.value.mend
        assert address in caught.value.error


def test_a_body_that_always_breaks_off_is_refused_and_each_try_is_a_new_request(hasty: FaultyS3, bucket: str) -> None:
    hasty.cut("^GET", after=1000, times=FOREVER)
    with pytest.raises(KoalaError, match="not completed") as caught:
        storage.read_bytes(f"{bucket}/file")
    assert caught.value.where == f"{bucket}/file"
    assert len(hasty.asked("^GET")) == storage.BODY_ATTEMPTS


def test_a_slow_endpoint_is_waited_for(hasty: FaultyS3, bucket: str) -> None:
    hasty.slow(0.5, times=2)
    assert storage.read_bytes(f"{bucket}/file") == DATA


def test_a_stalled_endpoint_is_asked_again_and_at_last_refused(
    hasty: FaultyS3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 0.3}})
    hasty.slow(60)
    assert storage.exists(f"{bucket}/file")
    assert [request.fault for request in hasty.requests] == ["slow", ""]
    hasty.slow(60, times=FOREVER)
    with pytest.raises(KoalaError, match="Read timeout"):
        storage.exists(f"{bucket}/file")


@pytest.mark.parametrize("fault", ["fail", "cut"])
def test_a_write_that_fails_for_good_leaves_what_was_there(hasty: FaultyS3, bucket: str, fault: str) -> None:
    getattr(hasty, fault)("^PUT", times=FOREVER)
    for name in ("file", "new"):
        for attempt in (storage.write_atomic, write_through_a_file):
            with pytest.raises(KoalaError):
                attempt(f"{bucket}/{name}", b"half of it")
    hasty.clear()
    assert storage.read_bytes(f"{bucket}/file") == DATA
    assert not storage.exists(f"{bucket}/new")


def write_through_a_file(uri: str, data: bytes) -> None:
    with storage.open_write(uri) as file:
        file.write(data)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads in parts from 5 MiB on, by fsspec's own configuration."""
    monkeypatch.setitem(conf, "s3", {"default_block_size": PART_SIZE})


@pytest.mark.parametrize("broken", ["partNumber=2", "^POST .*uploadId="], ids=["a part", "the last word"])
def test_an_upload_in_parts_is_given_up_whole(hasty: FaultyS3, bucket: str, small_parts: None, broken: str) -> None:
    large = os.urandom(2 * PART_SIZE + 1)
    hasty.fail(broken, times=FOREVER)
    with pytest.raises(KoalaError, match="InternalError"):
        write_in_parts(f"{bucket}/large", large)
    assert hasty.asked("^DELETE .*uploadId=")
    hasty.clear()
    fs, path = storage.filesystem(f"{bucket}/large")
    assert not storage.exists(f"{bucket}/large")
    assert fs.list_multipart_uploads(path.partition("/")[0]) == []
    write_in_parts(f"{bucket}/large", large)
    assert hasty.asked("partNumber=2")
    assert storage.read_bytes(f"{bucket}/large") == large
    storage.remove_tree(f"{bucket}/large")


def write_in_parts(uri: str, data: bytes) -> None:
    with storage.open_write(uri) as file:
        for start in range(0, len(data), PART_SIZE):
            file.write(data[start : start + PART_SIZE])


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [1, 2 * PART_SIZE + 1])
def test_a_writer_that_fails_leaves_nothing_and_its_error_passes(root: str, small_parts: None, size: int) -> None:
    uri = f"{root}/file"
    for before in (None, b"before"):
        if before:
            storage.write_atomic(uri, before)
        with pytest.raises(OSError, match="of the writer's own") as caught:
            fail_while_writing(uri, size)
        assert caught.value.errno == errno.EIO
        assert [stored.relative for stored in storage.list_files(root)] == (["file"] if before else [])
    assert storage.read_bytes(uri) == b"before"
    if not storage.is_remote(root):
        assert os.listdir(root) == ["file"]


def fail_while_writing(uri: str, size: int) -> None:
    with storage.open_write(uri) as file:
        file.write(b"x" * size)
        raise OSError(errno.EIO, "of the writer's own")


def test_a_writer_that_fails_at_a_missing_file_is_not_told_that_its_target_is_missing(root: str) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), storage.open_write(f"{root}/file"):
        open("/nowhere/at/all")  # noqa: SIM115


def test_copies_go_through_a_bad_endpoint(patient: FaultyS3, bucket: str, small_parts: None, tmp_path: Path) -> None:
    large = os.urandom(PART_SIZE + 1)
    (tmp_path / "from" / "deep").mkdir(parents=True)
    (tmp_path / "from" / "deep" / "large").write_bytes(large)
    patient.cut("^PUT", after=1000)
    storage.copy_tree(str(tmp_path / "from"), f"{bucket}/copy")
    patient.cut("^GET .*large", after=70_000, times=2)
    storage.copy_to_local(f"{bucket}/copy", tmp_path / "to")
    assert (tmp_path / "to" / "deep" / "large").read_bytes() == large
    assert [request.fault for request in patient.asked("large") if request.fault] == ["cut", "cut", "cut"]
    shutil.rmtree(tmp_path / "to")
    patient.cut("^GET .*large", after=70_000, times=FOREVER)
    with pytest.raises(KoalaError):
        storage.copy_to_local(f"{bucket}/copy", tmp_path / "to")
    assert not [path for path in (tmp_path / "to").rglob("*") if path.is_file()]
    patient.clear()
    storage.remove_tree(f"{bucket}/copy")


def test_what_is_wrong_with_the_content_stays_what_it_is(hasty: FaultyS3, bucket: str) -> None:
    damaged = f"{bucket}/damaged.jsonl.gz"
    storage.write_atomic(damaged, gzip.compress(os.urandom(500_000))[:-100])
    with pytest.raises(EOFError), storage.open_read(damaged, "infer") as file:
        file.read()
    with pytest.raises(gzip.BadGzipFile), storage.open_read(damaged, "infer") as file:
        raise gzip.BadGzipFile("of the reader's own")
    with pytest.raises(pa.ArrowInvalid):
        tables.read_table(damaged)
    assert any(isinstance(item, RawFault) and item.reason == "damaged compression" for item in read_rows(damaged))


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_a_storage_that_fails_is_not_taken_for_a_damaged_file(hasty: FaultyS3, bucket: str, suffix: str) -> None:
    uri = f"{bucket}/rows.{suffix}"
    text = b'{"a": 1}\n' * 20_000
    pack = {"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.zst": lambda data: bytes(pa.compress(data, "zstd"))}
    storage.write_atomic(uri, pack[suffix](text))
    hasty.fail("^GET .*rows", times=FOREVER)
    with pytest.raises(KoalaError, match="InternalError"):
        list(read_rows(uri))
    hasty.clear()
    hasty.cut("^GET .*rows", after=10)
    assert len(list(read_rows(uri))) == 20_000


def test_parquet_is_read_over_a_bad_endpoint(patient: FaultyS3, bucket: str) -> None:
    uri = f"{bucket}/table.parquet"
    table = pa.table({"text": [str(number) * 10 for number in range(5000)]})
    tables.write_table(uri, table)
    fs, path = storage.arrow_filesystem(uri)
    for reader in (lambda: tables.read_table(uri), lambda: pq.read_table(path, filesystem=fs)):
        patient.cut("^GET .*table", after=100)
        assert reader().equals(table)
    assert len([request for request in patient.requests if request.fault]) == 2
    patient.fail("^GET .*table", times=FOREVER)
    with pytest.raises(KoalaError, match="InternalError"):
        tables.read_table(uri)


def test_the_usual_variables_say_how_often_and_how(
    hasty: FaultyS3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty.fail(times=FOREVER)
    for attempts in (1, 2):
        hasty.requests.clear()
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", str(attempts))
        with pytest.raises(KoalaError):
            storage.exists(f"{bucket}/file")
        assert len(hasty.requests) == attempts
    hasty.clear()
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    assert client_config(bucket).retries == {"mode": "standard", "total_max_attempts": faults.ATTEMPTS}
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    assert client_config(bucket).retries["mode"] == "adaptive"


def test_what_a_user_configures_for_fsspec_stands_beside_ours(
    hasty: FaultyS3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client_config(bucket).read_timeout == faults.READ_TIMEOUT
    style = {"addressing_style": "path"}
    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"s3": style, "read_timeout": 120}})
    config = client_config(bucket)
    assert (config.s3, config.read_timeout, config.connect_timeout) == (style, 120, faults.CONNECT_TIMEOUT)


def client_config(uri: str) -> object:
    return storage.filesystem(uri)[0].s3.meta.config


def test_one_file_system_serves_a_process_also_when_it_comes_back_from_a_worker(hasty: FaultyS3, bucket: str) -> None:
    fs, path = storage.filesystem(bucket)
    assert fs.isdir(path)
    assert storage.filesystem(f"{bucket}/else")[0] is fs
    assert pickle.loads(pickle.dumps(fs)) is fs
    type(fs).clear_instance_cache()
    other = pickle.loads(pickle.dumps(fs))
    assert other is not fs
    assert other.s3.meta.config.retries == fs.s3.meta.config.retries


def test_errors_of_a_local_disk_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(str(tmp_path / "nowhere"))
    with pytest.raises(IsADirectoryError):
        storage.read_bytes(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        storage.sha256(str(tmp_path / "nowhere"))


def test_a_step_outlasts_an_outage_at_its_end(hasty: FaultyS3, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    def build(folder: str) -> dict[str, int]:
        storage.write_atomic(storage.join(folder, "data"), DATA)
        hasty.fail("^PUT .*(manifest|COMMITTED)", times=2)
        return {"rows": 1}

    result = run_step("outlasts", bucket, settings={}, inputs={}, build=build)
    assert capsys.readouterr().err.count("InternalError") == 2
    assert is_committed(result.folder)
    assert read_manifest(result.folder) == result.manifest
    assert [file["path"] for file in result.manifest.files] == ["data"]


def test_an_outage_without_an_end_is_the_jobs(hasty: FaultyS3, bucket: str) -> None:
    hasty.fail("^PUT", times=FOREVER)
    told: list[str] = []
    with pytest.raises(StorageFailure, match="InternalError"):
        outlast(lambda: storage.write_atomic(f"{bucket}/never", DATA), told.append, seconds=1.5)
    assert len(told) == 1
    assert "trying again in 1 s" in told[0]
