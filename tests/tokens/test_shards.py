from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import new_bucket

from koala_ray import storage
from koala_ray.records import PackedRow
from koala_ray.tokens import shards
from koala_ray.tokens.pack import epoch_order, pack
from koala_ray.tokens.shards import Dialogues, Plan, ShardReader, read_all, read_groups, read_plan, write_shards

CONTEXT = 20


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 6)
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 2)


@pytest.fixture(params=["folder", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "train")
    request.getfixturevalue("s3_endpoint")
    return f"{new_bucket()}/train"


def dialogues(lengths: list[int]) -> Dialogues:
    """Dialogues whose ids say which dialogue and place they are, with uneven learnt tokens."""
    ids = [1000 * (n + 1) + place for n, length in enumerate(lengths) for place in range(length)]
    learn = [place > n % 3 for n, length in enumerate(lengths) for place in range(length)]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    learnt = np.array([sum(learn[first:end]) for first, end in pairwise(starts)], dtype=np.int64)
    names = pa.array([f"s/f#{n}" for n in range(len(lengths))], pa.string())
    groups = pa.array([f"{'abc'[n % 3]}/none" for n in range(len(lengths))], pa.string()).dictionary_encode()
    return Dialogues(np.array(ids, np.int32), np.array(learn, bool), starts, learnt, names, groups)


LENGTHS = [7, 20, 3, 9, 11, 1, 5, 5, 19, 2, 13, 8, 20, 20, 6, 17]


def expected_rows(lengths: list[int], packs: list[list[int]], epochs: int, seed: int) -> list[PackedRow]:
    """The packed rows, put together the slow way."""
    source = dialogues(lengths)
    rows: list[PackedRow] = []
    for epoch in range(epochs):
        for index in epoch_order(len(packs), seed, epoch):
            spans = [range(source.starts[member], source.starts[member + 1]) for member in packs[index]]
            learn = [bool(source.learn[place]) for span in spans for place in span]
            rows.append(
                PackedRow(
                    gidx=len(rows),
                    epoch=epoch,
                    input_ids=[int(source.ids[place]) for span in spans for place in span],
                    learn=learn,
                    lengths=[len(span) for span in spans],
                    examples=[source.names[member].as_py() for member in packs[index]],
                    groups=[source.groups[member].as_py() for member in packs[index]],
                    learnt=sum(learn),
                )
            )
    return rows


def test_rows_come_back_in_the_order_of_all_epochs(folder: str) -> None:
    packs = pack(LENGTHS, CONTEXT)
    assert write_shards(folder, dialogues(LENGTHS), packs, epochs=3, seed=4) == 3 * len(packs)
    expected = expected_rows(LENGTHS, packs, 3, 4)
    assert list(read_all(folder)) == expected
    names = [file.relative for file in storage.list_files(folder)]
    assert names == ["plan.parquet", *(f"shard-{n:05d}.parquet" for n in range(-(-len(expected) // 6)))]
    assert len(names) > 3


def test_the_plan_knows_each_row_without_reading_it(folder: str) -> None:
    packs = pack(LENGTHS, CONTEXT)
    rows = write_shards(folder, dialogues(LENGTHS), packs, epochs=2, seed=0)
    plan = read_plan(folder)
    expected = expected_rows(LENGTHS, packs, 2, 0)
    assert plan.rows == rows == len(expected)
    assert plan.epoch.tolist() == [row.epoch for row in expected]
    assert plan.tokens.tolist() == [len(row.input_ids) for row in expected]
    assert plan.learnt.tolist() == [row.learnt for row in expected]
    assert plan.tokens.sum() == 2 * sum(LENGTHS)


def test_groups_are_read_alone_and_in_order(folder: str) -> None:
    packs = pack(LENGTHS, CONTEXT)
    write_shards(folder, dialogues(LENGTHS), packs, epochs=2, seed=0)
    assert read_groups(folder) == [row.groups for row in expected_rows(LENGTHS, packs, 2, 0)]


def test_rows_are_found_by_their_index_in_any_order(folder: str) -> None:
    packs = pack(LENGTHS, CONTEXT)
    write_shards(folder, dialogues(LENGTHS), packs, epochs=2, seed=0)
    expected = expected_rows(LENGTHS, packs, 2, 0)
    reader = ShardReader(folder)
    wanted = [len(expected) - 1, 0, 7, 6, 7, 5, 1]
    assert [PackedRow(**row) for row in reader.table(wanted).to_pylist()] == [expected[gidx] for gidx in wanted]
    assert reader.row(3) == expected[3]
    assert reader.table([]).num_rows == 0


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    packs = pack(LENGTHS, CONTEXT)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_shards(str(tmp_path / name), dialogues(LENGTHS), packs, epochs=2, seed=seed)
    a, b, c = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a["shard-00000.parquet"] != c["shard-00000.parquet"]


def test_rows_in_another_place_are_noticed(tmp_path: Path) -> None:
    write_shards(str(tmp_path), dialogues(LENGTHS), pack(LENGTHS, CONTEXT), epochs=2, seed=0)
    one, other, spare = (tmp_path / f"{name}.parquet" for name in ("shard-00000", "shard-00001", "spare"))
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    for gidx in (0, 5, 6, 11):
        with pytest.raises(ValueError, match="other rows stand where rows"):
            ShardReader(str(tmp_path)).row(gidx)


def test_few_rows_are_read_for_one(tmp_path: Path) -> None:
    write_shards(str(tmp_path), dialogues(LENGTHS), pack(LENGTHS, CONTEXT), epochs=2, seed=0)
    file = pq.ParquetFile(tmp_path / "shard-00000.parquet")
    assert [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)] == [2, 2, 2]


def test_no_packs_no_rows(folder: str) -> None:
    assert write_shards(folder, dialogues([]), [], epochs=2, seed=0) == 0
    assert read_plan(folder).rows == 0
    assert read_plan(folder).steps(4) == 0
    assert list(read_all(folder)) == []
    assert read_groups(folder) == []


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, CONTEXT), min_size=1, max_size=40), st.integers(1, 3), st.integers(0, 5))
def test_any_dialogues_come_back(lengths: list[int], epochs: int, seed: int) -> None:
    packs = pack(lengths, CONTEXT)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(folder, dialogues(lengths), packs, epochs, seed)
        assert list(read_all(folder)) == expected_rows(lengths, packs, epochs, seed)
        assert (read_plan(folder).learnt >= 0).all()


@pytest.mark.parametrize(("rows", "batch", "steps"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (8, 4, 2), (3, 1, 3)])
def test_steps_are_counted_with_the_padded_last_one(rows: int, batch: int, steps: int) -> None:
    plan = Plan(np.zeros(rows, np.int32), np.arange(rows), 10 * np.arange(rows))
    assert plan.steps(batch) == steps
    assert plan.per_step(plan.learnt, batch).tolist() == [
        sum(10 * row for row in range(rows)[step * batch : (step + 1) * batch]) for step in range(steps)
    ]


def test_lengths_of_dialogues() -> None:
    assert dialogues([3, 1, 5]).lengths.tolist() == [3, 1, 5]
    assert dialogues([]).lengths.tolist() == []
