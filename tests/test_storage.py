from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import new_bucket

from koala_ray import storage
from koala_ray.errors import KoalaError

TREE = {
    "a.json": b"1",
    "a.jsonl": b"22",
    "hc3/b.jsonl": b"333",
    "hc3/deep/er/c.jsonl": b"4444",
    "hc3/deep/x_c.jsonl": b"5",
    "other/d+(1).jsonl": b"",
}


@pytest.fixture
def tree(root: str) -> str:
    return plant(root)


@pytest.fixture(scope="module", params=["folder", "s3"])
def evergreen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tree for the tests that only read it."""
    if request.param == "folder":
        return plant(str(tmp_path_factory.mktemp("evergreen")))
    request.getfixturevalue("s3_endpoint")
    return plant(new_bucket())


def plant(root: str) -> str:
    for name, data in TREE.items():
        storage.write_atomic(storage.join(root, name), data)
    return root


def names(root: str, *patterns: str) -> list[str]:
    return [file.relative for file in storage.list_files(root, patterns or ("**",))]


def test_what_is_written_is_read_and_replaced(root: str) -> None:
    uri = storage.join(root, "deep", "file.bin")
    assert not storage.exists(uri)
    storage.write_atomic(uri, b"first")
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == b"first"
    storage.write_atomic(uri, b"\x00second\xff")
    assert storage.read_bytes(uri) == b"\x00second\xff"
    assert names(root) == ["deep/file.bin"]


def test_an_open_file_is_written_in_pieces(root: str) -> None:
    uri = storage.join(root, "deep", "file.bin")
    with storage.open_write(uri) as file:
        for piece in (b"a" * 70_000, b"b"):
            file.write(piece)
    assert storage.read_bytes(uri) == b"a" * 70_000 + b"b"
    with storage.open_read(uri) as file:
        assert file.read(2) == b"aa"


def test_a_folder_is_one_and_a_file_is_not(evergreen: str) -> None:
    assert storage.is_folder(evergreen)
    assert storage.is_folder(storage.join(evergreen, "hc3"))
    assert not storage.is_folder(storage.join(evergreen, "a.json"))
    assert not storage.is_folder(storage.join(evergreen, "nowhere"))
    assert storage.exists(storage.join(evergreen, "hc3"))
    assert not storage.exists(storage.join(evergreen, "hc"))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("**",), list(TREE)),
        (("*",), ["a.json", "a.jsonl"]),
        (("*.json",), ["a.json"]),
        (("?.json*",), ["a.json", "a.jsonl"]),
        (("hc3/*.jsonl",), ["hc3/b.jsonl"]),
        (("hc3/*",), ["hc3/b.jsonl"]),
        (("*/*/*.jsonl",), ["hc3/deep/x_c.jsonl"]),
        (("hc3/**.jsonl",), ["hc3/b.jsonl", "hc3/deep/er/c.jsonl", "hc3/deep/x_c.jsonl"]),
        (("hc3/**/*.jsonl",), ["hc3/b.jsonl", "hc3/deep/er/c.jsonl", "hc3/deep/x_c.jsonl"]),
        (("**/c.jsonl",), ["hc3/deep/er/c.jsonl"]),
        (("**c.jsonl",), ["hc3/deep/er/c.jsonl", "hc3/deep/x_c.jsonl"]),
        (("**/a.json",), ["a.json"]),
        (("hc3/*/**/c.jsonl",), ["hc3/deep/er/c.jsonl"]),
        (("hc3/*/c.jsonl",), []),
        (("[ab].json",), ["a.json"]),
        (("[!a]*/**.jsonl",), ["hc3/b.jsonl", "hc3/deep/er/c.jsonl", "hc3/deep/x_c.jsonl", "other/d+(1).jsonl"]),
        (("other/d+(1).jsonl",), ["other/d+(1).jsonl"]),
        (("a.jsonl", "*.jsonl", "hc3/b.jsonl"), ["a.jsonl", "hc3/b.jsonl"]),
        (("nothing*",), []),
        ((), []),
    ],
)
def test_globs(evergreen: str, patterns: tuple[str, ...], expected: list[str]) -> None:
    found = storage.list_files(evergreen, patterns)
    assert [file.relative for file in found] == sorted(expected)


def test_listed_files_say_where_and_how_large_they_are(evergreen: str) -> None:
    found = storage.list_files(evergreen)
    assert {file.relative: file.size for file in found} == {name: len(data) for name, data in TREE.items()}
    for file in found:
        assert file.uri == storage.join(evergreen, file.relative)
        assert storage.read_bytes(file.uri) == TREE[file.relative]


def test_nothing_is_listed_where_nothing_is(root: str) -> None:
    assert storage.list_files(storage.join(root, "nowhere")) == []


def test_what_a_killed_writer_left_is_not_listed(tree: str) -> None:
    with storage.open_write(storage.join(tree, "hc3", f"{storage.PART}a1b2")) as file:
        file.write(b"half")
    assert names(tree) == sorted(TREE)


def test_a_file_changed_by_someone_else_is_seen(root: str) -> None:
    uri = storage.join(root, "a", "file")
    assert (storage.exists(uri), names(root)) == (False, [])
    fs, path = storage.filesystem(uri)
    other = type(fs)(skip_instance_cache=True)
    other.makedirs(os.path.dirname(path), exist_ok=True)
    other.pipe_file(path, b"theirs")
    assert storage.exists(uri)
    assert names(root) == ["a/file"]


def test_sha256(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(1000)
    storage.write_atomic(storage.join(root, "file"), data)
    for chunk in (7, 1000, 1 << 20):
        monkeypatch.setattr(storage, "CHUNK", chunk)
        assert storage.sha256(storage.join(root, "file")) == hashlib.sha256(data).hexdigest()


def test_a_tree_is_removed_and_what_stands_beside_stays(tree: str) -> None:
    storage.remove_tree(storage.join(tree, "hc3"))
    assert names(tree) == ["a.json", "a.jsonl", "other/d+(1).jsonl"]
    storage.remove_tree(storage.join(tree, "hc3"))
    storage.remove_tree(tree)
    assert names(tree) == []


def test_copies_there_and_back(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, data in TREE.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    storage.copy_tree(str(source), root)
    assert names(root) == sorted(TREE)
    target = tmp_path / "target"
    assert storage.copy_to_local(root, target) == target
    copied = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert copied == TREE


def test_a_copy_fetches_what_changed_in_size_and_keeps_the_rest(tree: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    storage.copy_to_local(tree, target)
    (target / "a.jsonl").write_bytes(b"cut")
    (target / "a.json").write_bytes(b"9")
    storage.copy_to_local(tree, target)
    assert (target / "a.jsonl").read_bytes() == TREE["a.jsonl"]
    assert (target / "a.json").read_bytes() == b"9"


def test_copying_from_nowhere_is_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(KoalaError, match="nothing is stored there"):
        storage.copy_to_local(storage.join(root, "nowhere"), tmp_path)


def test_compressed_files_are_unpacked_by_name(root: str) -> None:
    text = b"line\n" * 1000
    packed = {"a.gz": gzip.compress(text), "a.zst": zstd(text), "a.txt": text}
    for name, data in packed.items():
        storage.write_atomic(storage.join(root, name), data)
        with storage.open_read(storage.join(root, name), "infer") as file:
            assert file.read() == text
        assert storage.read_bytes(storage.join(root, name)) == data


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


def test_arrow_reads_what_was_written(root: str) -> None:
    with storage.open_write(storage.join(root, "a.parquet")) as file:
        pq.write_table(pa.table({"x": [1, 2]}), file)
    fs, path = storage.arrow_filesystem(storage.join(root, "a.parquet"))
    assert pq.read_table(path, filesystem=fs).to_pydict() == {"x": [1, 2]}


def test_a_writable_folder_passes_and_nothing_stays_in_it(root: str) -> None:
    storage.check_writable(storage.join(root, "new"))
    fs, path = storage.filesystem(root)
    assert fs.find(path) == []


def test_an_atomic_write_that_fails_leaves_the_old_content_and_no_part(tmp_path: Path) -> None:
    uri = tmp_path / "file"
    storage.write_atomic(str(uri), b"old")
    with pytest.raises(TypeError):
        storage.write_atomic(str(uri), "not bytes")  # type: ignore[arg-type]
    with pytest.raises(KoalaError, match="can't write"):
        storage.write_atomic(str(tmp_path), b"a folder stands there")
    assert uri.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert not list(tmp_path.parent.glob(f"{storage.PART}*"))


def test_an_atomic_write_gives_a_file_that_others_may_read(tmp_path: Path) -> None:
    storage.write_atomic(str(tmp_path / "file"), b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("place", ["file/below", "file/far/below", "/proc/koala/file", "."])
def test_unwritable_places_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"regular")
    uri = str(tmp_path / place)
    with pytest.raises(KoalaError) as caught:
        storage.write_atomic(uri, b"x")
    assert caught.value.error.startswith("can't write")
    assert (caught.value.where, "--out" in caught.value.mend) == (uri, True)
    with pytest.raises(KoalaError), storage.open_write(uri) as file:
        file.write(b"x")
    if place != ".":
        with pytest.raises(KoalaError):
            storage.check_writable(uri)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_bucket_that_is_not_there_is_refused(s3_endpoint: str) -> None:
    missing = "s3://no-such-bucket/file"
    with pytest.raises(KoalaError, match="can't write"):
        storage.write_atomic(missing, b"x")
    with pytest.raises(KoalaError, match="can't write"), storage.open_write(missing) as file:
        file.write(b"x")
    assert not storage.exists(missing)
    assert storage.list_files("s3://no-such-bucket") == []
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(missing)


def test_an_object_store_without_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    S3FileSystem.clear_instance_cache()  # the endpoint's own has its keys already
    for ask in (storage.exists, storage.is_folder):
        with pytest.raises(KoalaError) as caught:
            ask("s3://some-bucket/some/prefix")
        assert "credentials" in caught.value.error
        assert caught.value.where == "s3://some-bucket/some/prefix"
        assert "AWS_ACCESS_KEY_ID" in caught.value.mend
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("uri", ["nonesuch://bucket/file", "carrier-pigeon://coop"])
def test_an_unknown_scheme_is_refused(uri: str) -> None:
    for use in (storage.exists, storage.read_bytes, storage.list_files, storage.sha256):
        with pytest.raises(KoalaError) as caught:
            use(uri)
        assert caught.value.where == uri
        assert "s3://" in caught.value.mend


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/a/b/", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("~/x", os.path.expanduser("~/x")),
        ("rel", os.path.abspath("rel")),
        (Path("/a/../b"), "/b"),
    ],
)
def test_paths_in_one_form(given: str | Path, expected: str) -> None:
    assert storage.absolute(given) == expected


def test_remote_or_not() -> None:
    uris = ("s3://a", "gs://a", "file:///a", "/a", "a")
    assert [storage.is_remote(uri) for uri in uris] == [True, True, False, False, False]


def test_folders_right_below_a_root(root):
    assert storage.list_folders(root) == []
    for name in ("a/x", "b/c/x", "file"):
        storage.write_atomic(storage.join(root, name), b"1")
    assert storage.list_folders(root) == ["a", "b"]
