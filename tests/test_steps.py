from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.steps import (
    MANIFEST,
    MARKER,
    StepResult,
    canonical,
    find_step,
    is_committed,
    read_manifest,
    run_step,
    step_key,
)

SETTINGS = {"lr": 1e-5, "words": ["ä", "b"]}
INPUTS = {"raw": "1234"}


@pytest.fixture
def out(root: str) -> str:
    return root


def writer(files: dict[str, bytes], counts: dict[str, Any] | None = None) -> Callable[[str], dict[str, Any]]:
    def build(folder: str) -> dict[str, Any]:
        for name, data in files.items():
            storage.write_atomic(storage.join(folder, name), data)
        return counts or {"rows": len(files)}

    return build


def refuse(folder: str) -> dict[str, Any]:
    raise AssertionError(f"{folder} is built again")


def step(out: str, build: Callable[[str], Any] | None = None, **options: Any) -> StepResult:
    build = build or writer({"a": b"1", "b/c": b"2"})
    values: dict[str, Any] = {"settings": SETTINGS, "inputs": INPUTS, "build": build, **options}
    return run_step("demo", out, **values)


def snapshot(folder: str) -> dict[str, tuple[bytes, object]]:
    """Every file's bytes and when it was written."""
    fs, path = storage.filesystem(folder)
    fs.invalidate_cache()
    found = {}
    for name, info in fs.find(path, detail=True).items():
        written = info.get("mtime") or info.get("LastModified")
        assert written
        found[name.removeprefix(path)] = (fs.cat_file(name), written)
    return found


def test_a_step_is_done_once_and_skipped_after(out: str) -> None:
    first = step(out)
    assert not first.skipped
    before = snapshot(out)
    again = step(out, refuse)
    assert again.skipped
    assert (again.folder, again.manifest) == (first.folder, first.manifest)
    assert snapshot(out) == before


def test_counts_are_those_that_a_later_run_reads_to_the_order_of_their_keys(out: str) -> None:
    """The next step writes them into its own files: they must be the same whether this step was done now or before."""
    counts = {"prompts": {"b": {"total": 2, "hit": 1}, "a": {"total": 1, "hit": 0}}, "kinds": ("x", "y")}
    first = step(out, writer({"a": b"1"}, counts))
    again = step(out, refuse)
    assert json.dumps(first.manifest.counts) == json.dumps(again.manifest.counts)
    assert first.manifest == again.manifest


def test_a_finished_step_is_found_by_its_settings_and_inputs(out: str) -> None:
    assert find_step("demo", out, SETTINGS, INPUTS) is None
    done = step(out)
    found = find_step("demo", out, SETTINGS, INPUTS)
    assert found is not None
    assert (found.folder, found.manifest, found.skipped) == (done.folder, done.manifest, True)
    assert find_step("demo", out, {**SETTINGS, "more": 1}, INPUTS) is None
    storage.remove_tree(storage.join(done.folder, MARKER))
    assert find_step("demo", out, SETTINGS, INPUTS) is None


def test_the_manifest_explains_the_folder(out: str) -> None:
    done = step(out, seed=7)
    assert done.folder == f"{out}/demo-{step_key('demo', SETTINGS, INPUTS)[:12]}"
    manifest = read_manifest(done.folder)
    assert manifest == done.manifest
    assert (manifest.step, manifest.settings, manifest.inputs, manifest.seed) == ("demo", SETTINGS, INPUTS, 7)
    assert manifest.counts == {"rows": 2}
    assert manifest.files == [
        {"path": "a", "size": 1, "sha256": hashlib.sha256(b"1").hexdigest()},
        {"path": "b/c", "size": 1, "sha256": hashlib.sha256(b"2").hexdigest()},
    ]
    assert {"koala-ray", "python", "ray", "torch"} <= set(manifest.versions)
    assert manifest.seconds >= 0


def test_a_build_that_raises_commits_nothing_and_a_rerun_replaces_what_it_left(out: str) -> None:
    def fail(folder: str) -> dict[str, Any]:
        writer({"a": b"half", "leftover": b"x"})(folder)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        step(out, fail)
    folder = f"{out}/demo-{step_key('demo', SETTINGS, INPUTS)[:12]}"
    assert storage.exists(storage.join(folder, "leftover"))
    assert not is_committed(folder)
    with pytest.raises(KoalaError, match="not a finished step"):
        read_manifest(folder)
    done = step(out)
    assert not done.skipped
    assert [file["path"] for file in done.manifest.files] == ["a", "b/c"]
    assert not storage.exists(storage.join(folder, "leftover"))


def test_partial_work_is_kept_where_the_builder_goes_on_from_it(out: str) -> None:
    def interrupted(folder: str) -> dict[str, Any]:
        writer({"part-1": b"1"})(folder)
        raise KeyboardInterrupt

    def going_on(folder: str) -> dict[str, Any]:
        assert storage.read_bytes(storage.join(folder, "part-1")) == b"1"
        return writer({"part-2": b"2"})(folder)

    with pytest.raises(KeyboardInterrupt):
        step(out, interrupted, keep_partial=True)
    done = step(out, going_on, keep_partial=True)
    assert [file["path"] for file in done.manifest.files] == ["part-1", "part-2"]


def test_a_killed_atomic_write_is_no_part_of_the_result(out: str) -> None:
    undisturbed = step(out, writer({"a": b"1"}), inputs={"run": 1})
    disturbed = step(out, writer({"a": b"1", f"{storage.PART}x": b"half"}), inputs={"run": 2}, keep_partial=True)
    assert disturbed.manifest.content_hash == undisturbed.manifest.content_hash
    assert disturbed.manifest.files == undisturbed.manifest.files


def test_unlisted_folders_are_no_part_of_the_result(out: str) -> None:
    build = writer({"a": b"1", "logs/x": b"noise", "logs.txt": b"2"})
    done = step(out, build, unlisted=("logs/",))
    assert [file["path"] for file in done.manifest.files] == ["a", "logs.txt"]
    assert storage.exists(storage.join(done.folder, "logs/x"))


def test_equal_content_has_an_equal_hash_wherever_it_lies(out: str, tmp_path: Path) -> None:
    here = step(out, writer({"a": b"1", "b": b"2"}))
    there = step(str(tmp_path / "elsewhere"), writer({"b": b"2", "a": b"1"}), inputs={"raw": "5"})
    assert here.manifest.content_hash == there.manifest.content_hash
    assert here.manifest.key != there.manifest.key
    for n, other in enumerate(({"a": b"2", "b": b"1"}, {"a": b"1"}, {"a": b"1", "c": b"2"})):
        assert step(out, writer(other), inputs={"n": n}).manifest.content_hash != here.manifest.content_hash


def test_another_setting_or_input_is_another_folder(out: str) -> None:
    folders = {
        step(out).folder,
        step(out, settings={**SETTINGS, "lr": 2e-5}).folder,
        step(out, inputs={"raw": "1235"}).folder,
        run_step("other", out, settings=SETTINGS, inputs=INPUTS, build=writer({})).folder,
    }
    assert len(folders) == 4


@pytest.mark.parametrize("name", [MANIFEST, MARKER])
def test_a_tampered_manifest_is_refused(out: str, name: str) -> None:
    done = step(out)
    uri = storage.join(done.folder, name)
    data = storage.read_bytes(uri)
    storage.write_atomic(uri, data.replace(b'"rows": 2', b'"rows": 3') if name == MANIFEST else data[1:])
    with pytest.raises(KoalaError) as caught:
        read_manifest(done.folder)
    assert "doesn't match" in caught.value.error
    assert caught.value.where == done.folder
    assert "remove this folder" in caught.value.mend
    with pytest.raises(KoalaError):
        step(out, refuse)
    storage.remove_tree(done.folder)
    assert not step(out).skipped


def test_a_marker_without_its_manifest_is_refused(out: str) -> None:
    done = step(out)
    fs, path = storage.filesystem(storage.join(done.folder, MANIFEST))
    fs.rm_file(path)
    with pytest.raises(KoalaError, match="doesn't match"):
        read_manifest(done.folder)


def test_the_marker_is_written_last(tmp_path: Path) -> None:
    done = step(str(tmp_path))
    times = {path.name: path.stat().st_mtime_ns for path in Path(done.folder).rglob("*") if path.is_file()}
    assert max(times, key=times.__getitem__) == MARKER
    assert sorted(times, key=times.__getitem__)[-2] == MANIFEST


def test_a_place_that_cannot_be_written_costs_no_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/koala")):
        with pytest.raises(KoalaError, match="can't write"):
            step(str(place), refuse)


def test_no_folder_is_no_step(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        assert not is_committed(str(place))
        with pytest.raises(KoalaError, match="no commit marker") as caught:
            read_manifest(str(place))
        assert caught.value.where == str(place)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(max_size=5), JSON), st.dictionaries(st.text(max_size=5), JSON), st.randoms())
def test_the_key_depends_on_values_and_not_on_their_order(
    settings: dict[str, Any], inputs: dict[str, Any], random: Any
) -> None:
    def shuffled(values: dict[str, Any]) -> dict[str, Any]:
        items = list(values.items())
        random.shuffle(items)
        return dict(items)

    key = step_key("demo", settings, inputs)
    assert key == step_key("demo", shuffled(settings), shuffled(inputs))
    assert key != step_key("demo", {**settings, "more": 1} | {"another": 2}, inputs)
    assert key != step_key("demo2", settings, inputs)


def test_settings_and_inputs_are_not_mixed_up() -> None:
    assert step_key("demo", {"a": 1}, {}) != step_key("demo", {}, {"a": 1})


@settings(deadline=None, max_examples=50)
@given(JSON)
def test_canonical_bytes_are_json_of_the_same_value(value: object) -> None:
    assert json.loads(canonical(value)) == value
    assert canonical(json.loads(canonical(value))) == canonical(value)
