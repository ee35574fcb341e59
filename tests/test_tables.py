from __future__ import annotations

import tempfile
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.records import Example, Turn, example_schema, rejected_schema
from koala_ray.tables import (
    ROWS_PER_GROUP,
    ROWS_PER_PART,
    PartWriter,
    dialogues_of,
    groups_of,
    part_files,
    read_examples,
    read_group,
    read_table,
    turns_column,
    write_table,
)

SCHEMA = pa.schema([("id", pa.int64()), ("texts", pa.list_(pa.string())), ("flag", pa.bool_())])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 99),
            "texts": st.lists(st.text(max_size=4) | st.none(), max_size=3) | st.none(),
            "flag": st.booleans() | st.none(),
        }
    ),
    max_size=40,
)


def write(folder: Path, tables: list[pa.Table], rows_per_part: int) -> list[bytes]:
    with PartWriter(str(folder), "rows", SCHEMA, rows_per_part) as writer:
        for table in tables:
            writer.add(table)
    assert writer.rows == sum(table.num_rows for table in tables)
    paths = [Path(uri) for uri in part_files(str(folder), "rows")]
    assert [path.name for path in paths] == [f"rows-{place:05d}.parquet" for place in range(len(paths))]
    assert writer.parts == len(paths)
    return [path.read_bytes() for path in paths]


@settings(deadline=None, max_examples=50)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 40), max_size=8), rows_per_part=st.integers(1, 12))
def test_the_bytes_depend_on_the_rows_and_not_on_how_they_came(
    rows: list[dict[str, object]], cuts: list[int], rows_per_part: int
) -> None:
    whole = pa.Table.from_pylist(rows, schema=SCHEMA)
    edges = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    slices = [whole.slice(first, last - first) for first, last in pairwise(edges)]
    rebuilt = [pa.Table.from_pylist(piece.to_pylist(), schema=SCHEMA) for piece in slices]
    with tempfile.TemporaryDirectory() as folder:
        at_once = write(Path(folder, "a"), [whole], rows_per_part)
        assert write(Path(folder, "b"), slices, rows_per_part) == at_once
        assert write(Path(folder, "c"), [whole.slice(0, 0), *rebuilt, whole.slice(0, 0)], rows_per_part) == at_once
        assert write(Path(folder, "d"), [pa.concat_tables(slices)] if slices else [], rows_per_part) == at_once
        parts = [pq.read_table(pa.BufferReader(data)) for data in at_once]
    assert [part.num_rows for part in parts[:-1]] == [rows_per_part] * (len(parts) - 1)
    assert [row for part in parts for row in part.to_pylist()] == rows


def test_more_columns_are_left_out_and_their_order_does_not_matter(tmp_path: Path) -> None:
    table = pa.table({"extra": [1], "flag": [True], "texts": [["a"]], "id": pa.array([7], pa.int32())})
    write(tmp_path, [table], 10)
    read = read_table(str(tmp_path / "rows-00000.parquet"))
    assert read.schema == SCHEMA
    assert read.to_pylist() == [{"id": 7, "texts": ["a"], "flag": True}]


def test_a_failure_writes_no_half_filled_part(tmp_path: Path) -> None:
    tables = [pa.Table.from_pylist([{"id": place} for place in range(5)], schema=SCHEMA), pa.table({"id": [1]})]
    with pytest.raises(KeyError):
        write(tmp_path, tables, 2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["rows-00000.parquet", "rows-00001.parquet"]


def test_no_rows_no_parts(tmp_path: Path) -> None:
    assert write(tmp_path / "a", [], 3) == []
    assert write(tmp_path / "b", [SCHEMA.empty_table()], 3) == []


def test_parts_of_another_prefix_are_not_mixed_in(tmp_path: Path) -> None:
    for prefix in ("rows", "rows2"):
        with PartWriter(str(tmp_path), prefix, SCHEMA) as writer:
            writer.add(pa.Table.from_pylist([{"id": 1}], schema=SCHEMA))
    assert [Path(uri).name for uri in part_files(str(tmp_path), "rows")] == ["rows-00000.parquet"]


def test_row_groups_have_the_size_asked_for(tmp_path: Path) -> None:
    table = pa.table({"x": list(range(10))})
    write_table(str(tmp_path / "a.parquet"), table, row_group_size=4)
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)] == [4, 4, 2]
    assert read_table(str(tmp_path / "a.parquet")).to_pydict() == table.to_pydict()


TURN = st.builds(
    Turn, st.sampled_from(["user", "assistant"]), st.text(), st.sampled_from(["none", "positive"]), st.booleans()
)
EXAMPLE = st.builds(Example, st.text(), st.text(), st.lists(TURN, max_size=3).map(tuple), st.text(), st.text())


@settings(deadline=None, max_examples=50)
@given(st.lists(EXAMPLE, max_size=4))
def test_examples_come_back_from_arrow(examples: list[Example]) -> None:
    table = pa.Table.from_pylist([example.as_row() for example in examples], schema=example_schema())
    assert [Example.from_row(row) for row in table.to_pylist()] == examples


def test_the_schema_of_rejected_rows_has_the_fields_of_the_record() -> None:
    assert rejected_schema().names == ["source", "file", "line", "filter", "reason", "excerpt"]


TURN = st.builds(
    Turn,
    st.sampled_from(["user", "assistant"]),
    st.text(),
    st.sampled_from(["none", "positive", "negative"]),
    st.booleans(),
)


@given(st.lists(st.lists(TURN, min_size=1, max_size=4), max_size=8))
def test_dialogues_go_through_columns_unchanged(dialogues: list[list[Turn]]) -> None:
    column = turns_column(dialogues)
    assert column.type == example_schema().field("turns").type
    assert column.to_pylist() == [[asdict(turn) for turn in turns] for turns in dialogues]
    assert dialogues_of(pa.chunked_array([column])) == [tuple(turns) for turns in dialogues]


def test_rows_without_a_dialogue_are_null() -> None:
    column = turns_column([(), (Turn("user", "a"),), (), ()])
    assert [value is None for value in column.to_pylist()] == [True, False, True, True]
    assert dialogues_of(pa.chunked_array([column.drop_null()])) == [(Turn("user", "a"),)]


def test_examples_come_back_from_a_table() -> None:
    examples = [
        Example(
            f"hh/f#{n}/chosen", "hh", (Turn("user", "a"), Turn("assistant", str(n))), f"hh/f#{n}", "f", n, "heldout"
        )
        for n in range(3)
    ]
    table = pa.Table.from_pylist([example.as_row() for example in examples], schema=example_schema())
    assert read_examples(table) == examples
    assert read_examples(table.slice(1, 1)) == examples[1:2]
    assert read_examples(table.slice(0, 0)) == []


@pytest.mark.parametrize("rows", [0, 1, ROWS_PER_GROUP, ROWS_PER_GROUP + 1, ROWS_PER_PART, 2 * ROWS_PER_PART + 5])
def test_groups_are_found_by_the_number_of_rows(rows: int, tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int64())])
    with PartWriter(str(tmp_path), "x", schema) as writer:
        writer.add(pa.table({"n": range(rows)}))
    parts = part_files(str(tmp_path), "x")
    tables = [read_group(parts[part], group) for part, group in groups_of(rows)]
    assert [table.num_rows for table in tables[:-1]] == [ROWS_PER_GROUP] * (len(tables) - 1)
    assert [n for table in tables for n in table["n"].to_pylist()] == list(range(rows))
