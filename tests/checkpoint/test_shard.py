"""A shard's file, and elements read from shards that were cut otherwise."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from koala_ray import storage
from koala_ray.checkpoint.shard import DamagedShard, ShardReader, fetch, needed, write_shard
from koala_ray.checkpoint.slices import KINDS, Slice, cut

NOTHING = torch.empty(0)


def whole(weights: dict[str, int]) -> list[Slice]:
    return [Slice(name, 0, numel, NOTHING, 0) for name, numel in weights.items()]


def shared(weights: dict[str, int], workers: int) -> list[list[Slice]]:
    """Each worker's slices, with all weights end to end cut into equal parts."""
    total = sum(weights.values())
    bounds = [total * rank // workers for rank in range(workers + 1)]
    return [list(cut(whole(weights), *ends)) for ends in pairwise(bounds)]


def state(weights: dict[str, int]) -> dict[tuple[str, str], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {(kind, name): torch.randn(count, generator=generator) for kind in KINDS for name, count in weights.items()}


def write(uri: str, weights: dict[str, int], workers: int) -> list:
    values = state(weights)
    stored = []
    for rank, slices in enumerate(shared(weights, workers)):
        rows = [
            torch.cat([NOTHING, *(values[kind, one.name][one.start : one.start + one.numel] for one in slices)])
            for kind in KINDS
        ]
        stored.append(write_shard(uri, f"shard-{rank}.safetensors", torch.stack(rows), slices))
    return stored


@settings(max_examples=40, deadline=None)
@given(
    weights=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1),
    wrote=st.integers(1, 5),
    read=st.integers(1, 5),
)
def test_what_some_workers_wrote_any_number_reads(tmp_path_factory, weights, wrote, read):
    uri = str(tmp_path_factory.mktemp("shards"))
    stored, values = write(uri, weights, wrote), state(weights)
    for slices in shared(weights, read):
        shards = needed(stored, slices)
        reader = ShardReader(shards, {shard.file: fetch(uri, shard, Path(uri)) for shard in shards})
        for kind in KINDS:
            for one in slices:
                expected = values[kind, one.name][one.start : one.start + one.numel]
                assert torch.equal(reader.read(kind, one.name, one.start, one.numel), expected)


def test_a_worker_needs_only_the_shards_that_hold_its_slices(tmp_path):
    weights = {"a": 4, "b": 4}
    stored = write(str(tmp_path), weights, 4)
    assert needed(stored, [Slice("b", 1, 1, NOTHING, 0)]) == [stored[2]]
    assert needed(stored, [Slice("a", 1, 2, NOTHING, 0)]) == stored[:2]
    with pytest.raises(KeyError, match="2 elements of a"):
        ShardReader(stored[:1], {stored[0].file: tmp_path / stored[0].file}).read("weight", "a", 1, 3)


def test_the_file_is_what_the_safetensors_library_reads(root, tmp_path):
    (stored,) = write(root, {"a": 3, "b": 2}, 1)
    path = fetch(root, stored, tmp_path)
    found = load_file(path)
    assert sorted(found) == sorted(KINDS)
    values = state({"a": 3, "b": 2})
    assert torch.equal(found["exp_avg"], torch.cat([values["exp_avg", "a"], values["exp_avg", "b"]]))
    assert path.stat().st_size == stored.size


@pytest.mark.parametrize("fault", ["flipped", "cut", "missing"])
def test_a_damaged_shard_is_refused(root, tmp_path, fault):
    (stored,) = write(root, {"a": 100}, 1)
    uri = storage.join(root, stored.file)
    data = bytearray(storage.read_bytes(uri))
    if fault == "flipped":
        data[-5] ^= 4
        storage.write_atomic(uri, bytes(data))
    elif fault == "cut":
        storage.write_atomic(uri, bytes(data[:-1]))
    else:
        storage.remove_tree(uri)
    with pytest.raises(DamagedShard, match="missing" if fault == "missing" else "another sha256"):
        fetch(root, stored, tmp_path)
