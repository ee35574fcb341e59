"""A checkpoint's manifest, and which checkpoints of a run are whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray import storage
from koala_ray.checkpoint.manifest import (
    CHECKPOINTS,
    MANIFEST,
    RECORDS,
    Manifest,
    StoredShard,
    checkpoint_name,
    committed_records,
    committed_steps,
    format_records,
    mark_damaged,
    tidy,
    whole_checkpoints,
)
from koala_ray.checkpoint.shard import write_file


def manifest(steps: int = 4, records: StoredShard | None = None, shards: list[StoredShard] | None = None) -> Manifest:
    default = [StoredShard("a", 3, "0" * 64, [("w", 0, 5)]), StoredShard("b", 3, "0" * 64, [("w", 5, 2), ("v", 0, 1)])]
    return Manifest(
        steps_taken=steps,
        next_row=8 * steps,
        optimizer_steps=steps,
        workers=2,
        zero_stage=2,
        run={"train": {"seed": 0, "lr": 2e-5}},
        guards={"losses": [0.1, 2.3]},
        weights={"w": 7, "v": 1},
        shards=default if shards is None else shards,
        records=records or StoredShard(RECORDS, 0, "0" * 64, []),
    )


def commit(folder: str, steps: int, attempt: str = "x") -> str:
    """A committed checkpoint with two small shards."""
    uri = storage.join(folder, CHECKPOINTS, checkpoint_name(steps, attempt))
    shards = [write_file(uri, name, name.encode() * 3) for name in "ab"]
    records = write_file(uri, RECORDS, format_records([{"kind": "step", "step": steps}]))
    storage.write_atomic(storage.join(uri, MANIFEST), manifest(steps, records, shards).to_bytes())
    return uri


def names(folder: str) -> list[str]:
    files = storage.list_files(storage.join(folder, CHECKPOINTS))
    return sorted({file.relative.partition("/")[0] for file in files})


def test_a_manifest_is_read_as_it_was_written():
    assert Manifest.from_bytes(manifest().to_bytes()) == manifest()


@given(end=st.integers(0, 2000))
def test_a_manifest_that_was_cut_short_is_refused(end):
    data = manifest().to_bytes()
    with pytest.raises((ValueError, KeyError, TypeError)):
        Manifest.from_bytes(data[: min(end, len(data) - 1)])


@settings(max_examples=300)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_manifest_with_a_flipped_bit_is_refused(place, bit):
    data = bytearray(manifest().to_bytes())
    data[place % len(data)] ^= 1 << bit
    with pytest.raises((ValueError, KeyError, TypeError)):
        Manifest.from_bytes(bytes(data))


@pytest.mark.parametrize(
    ("slices", "wrong"),
    [
        ([("w", 0, 4)], "w has element 4 nowhere"),
        ([("w", 0, 6)], "w has element 5 twice"),
        ([("w", 0, 5), ("u", 0, 1)], "u has 1 elements, not None"),
        ([], "w has element 0 nowhere"),
    ],
)
def test_slices_that_leave_out_or_repeat_an_element_are_found(slices, wrong):
    found = manifest()
    assert found.uncovered() == ""
    changed = replace(found, shards=[replace(found.shards[0], slices=slices), found.shards[1]])
    assert changed.uncovered() == wrong


def test_the_last_whole_checkpoint_counts(root):
    assert committed_steps(root) == 0
    assert committed_records(root) == []
    commit(root, 2)
    commit(root, 10)
    assert committed_steps(root) == 10
    assert committed_records(root) == [{"kind": "step", "step": 10}]


@pytest.mark.parametrize("fault", ["no manifest", "cut manifest", "missing shard", "cut shard", "of other name"])
def test_what_is_not_whole_is_passed_over_with_a_word_about_it(tmp_path, fault):
    root, notices = str(tmp_path), []
    commit(root, 2)
    last = commit(root, 4)
    if fault == "no manifest":
        storage.remove_tree(storage.join(last, MANIFEST))
    elif fault == "cut manifest":
        data = storage.read_bytes(storage.join(last, MANIFEST))
        storage.write_atomic(storage.join(last, MANIFEST), data[:-9])
    elif fault == "missing shard":
        storage.remove_tree(storage.join(last, "b"))
    elif fault == "cut shard":
        storage.write_atomic(storage.join(last, "b"), b"b")
    else:
        (tmp_path / CHECKPOINTS / "step-000004-x").rename(tmp_path / CHECKPOINTS / "old")
    assert [one.manifest.steps_taken for one in whole_checkpoints(root, notices.append)] == [2]
    told = {"no manifest": 0, "of other name": 0}.get(fault, 1)
    assert len(notices) == told
    assert all("step-000004-x can't be used" in notice for notice in notices)


def test_a_damaged_checkpoint_is_never_read_again(root):
    commit(root, 2)
    commit(root, 4)
    mark_damaged(next(whole_checkpoints(root)))
    assert committed_steps(root) == 2
    tidy(root, keep=5, keep_every=0)
    assert names(root) == ["step-000002-x"]


def test_the_last_ones_and_each_nth_are_kept_and_nothing_that_was_never_committed(root):
    for steps in range(2, 15, 2):
        commit(root, steps)
    write_file(storage.join(root, CHECKPOINTS, checkpoint_name(16, "x")), "a", b"being written")
    write_file(storage.join(root, CHECKPOINTS, checkpoint_name(16, "dead")), "a", b"never committed")
    tidy(root, keep=2, keep_every=6, attempt="x")
    assert names(root) == ["step-000006-x", "step-000012-x", "step-000014-x", "step-000016-x"]
    tidy(root, keep=1, keep_every=0)
    assert names(root) == ["step-000014-x"]


def test_of_two_attempts_at_a_step_both_can_be_read(root):
    commit(root, 4, "a")
    commit(root, 4, "b")
    assert [one.uri.rsplit("-", 1)[1] for one in whole_checkpoints(root)] == ["b", "a"]
