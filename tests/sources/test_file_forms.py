"""Good rows in every form of file: none is lost, none is read otherwise, and repeated ids are no matter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from layout_rows import (
    LAYOUTS,
    alone,
    as_file,
    as_json,
    every_source,
    lines_and_array,
    outcome,
    read,
    read_data,
    sample_rows,
)
from packed import compress, parquet

from koala_ray.records import Example, Rejected
from koala_ray.samples import layouts


@every_source
def test_good_rows_are_read_alike_in_every_form(tmp_path: Path, source: str) -> None:
    rows = [
        LAYOUTS[source].row(),
        LAYOUTS[source].row("Où ?", "Là-bas.\n\nÀ gauche."),
        *sample_rows(LAYOUTS[source].sample)[:9],
    ]
    if source == "sharegpt":  # the first ones have one id: parts of one conversation
        rows = [row | {"id": f"{place}_0"} for place, row in enumerate(rows)]
    data = [as_json(row) for row in rows]
    expected = [[item.turns for item in alone(source, row, 1) if isinstance(item, Example)] for row in data]
    assert len(expected[0]) == len(LAYOUTS[source].sides)
    forms = {
        "x.jsonl": as_file(data, False),
        "array.jsonl": as_file(data, True),
        "x.json": json.dumps(rows, indent=2).encode(),
        "lines.json": as_file(data, False),
        "bom.jsonl": b"\xef\xbb\xbf" + as_file(data, False),
        "bom.json": b"\xef\xbb\xbf" + as_file(data, True),
        "crlf.jsonl": as_file(data, False).replace(b"\n", b"\r\n"),
        "crlf.json": as_file(data, True).replace(b"\n", b"\r\n"),
        "blank.jsonl": as_file(data, False).replace(b"\n", b"\n \n\n"),
        "x.parquet": parquet(rows),
    }
    for name in ("x.jsonl", "x.json"):
        for suffix in (".gz", ".zst"):
            forms[f"{name}{suffix}"] = compress(forms[name], suffix)
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        found = read(tmp_path / name, source)
        kept = [item for item in found if isinstance(item, Example)]
        assert [item.turns for item in kept] == [turns for row in expected for turns in row], name
        assert len({item.id for item in kept}) == len(kept)


@pytest.mark.parametrize("damaged", [None, 0, 1, 4])
def test_webgpt_with_an_array_on_each_line(damaged: int | None) -> None:
    flat = sample_rows(layouts.webgpt)[:5]
    lines = [
        as_json([{"question": row["question"]} | {name: row[f"{name}_{at}"] for name in names} for at in (0, 1)])
        for row in flat
        for names in [("answer", "quotes", "score")]
    ]
    expected = [alone("webgpt", as_json(row), line) for line, row in enumerate(flat, 1)]
    if damaged is not None:
        lines[damaged] = lines[damaged][:-30]
        expected[damaged] = [Rejected("webgpt", "x", damaged + 1, "read", "not valid JSON")]
    found = read_data(as_file(lines, False), "webgpt")
    whole = [item for items in expected for item in items]
    assert [outcome(item) for item in found] == [outcome(item) for item in whole]
    kept = [item for item in found if isinstance(item, Example)]
    assert kept == [item for item in whole if isinstance(item, Example)]


@every_source
@lines_and_array
def test_rows_with_one_id_are_all_kept(source: str, array: bool) -> None:
    layout = LAYOUTS[source]
    same = layout.row()
    rows = [as_json(row) for row in (same, same, layout.row("And you?"), same)]
    found = read_data(as_file(rows, array), source)
    assert [isinstance(item, Example) for item in found] == [True] * 4 * len(layout.sides)
    assert len({item.id for item in found if isinstance(item, Example)}) == len(found)
