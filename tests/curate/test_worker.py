from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from koala_ray.curate import worker
from koala_ray.curate.worker import FilterSettings, curate_rows, split_file
from koala_ray.recipe import KOALA_KEYWORDS
from koala_ray.samples import SAMPLE_SOURCES, write_samples

PROMPT = "Describe the life of a koala in the forests of eastern Australia."
SETTINGS: dict[str, Any] = {
    "heldout": 0.1,
    "seed": 0,
    "repair": True,
    "keywords": KOALA_KEYWORDS,
    "keywords_in": ("sharegpt",),
    "english": True,
    "near_duplicates": False,
    "drop_contaminated": True,
    "prompts": (PROMPT,),
    "bleu": 20.0,
}


def curated(source: str, path: Path, **changes: Any) -> list[dict[str, Any]]:
    task = {name: np.array([value]) for name, value in (("source", source), ("uri", str(path)), ("relative", "f"))}
    tables = [curate_rows(table, FilterSettings(**{**SETTINGS, **changes})) for table in split_file(task)]
    return pa.concat_tables(tables).to_pylist()


def written(folder: Path, rows: list[Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def alpaca(asked: str, answer: str = "So it is.") -> dict[str, str]:
    return {"instruction": asked, "input": "", "output": answer}


def verdicts(rows: list[dict[str, Any]]) -> list[tuple[int, str | None, str | None]]:
    return [(row["line"], row["filter"], row["reason"]) for row in rows]


def test_each_filter_says_why(tmp_path):
    rows = [
        alpaca("Why is the sky blue in the morning?"),
        alpaca("Warum ist der Himmel am Morgen so blau und am Abend so rot?"),
        alpaca(PROMPT),
        alpaca("\x00\x01", "Nothing is left of the question."),
        alpaca("Who made ChatGPT?", "OpenAI did."),
        {"instruction": 5, "output": ""},
    ]
    assert verdicts(curated("alpaca", written(tmp_path, rows))) == [
        (1, None, None),
        (2, "language", "not English: de"),
        (3, "decontaminate", "too close to an evaluation prompt"),
        (4, "repair", "no exchange of a user and an assistant"),
        (5, None, None),
        (6, "layout", "not a text: instruction"),
    ]


def test_keywords_are_looked_for_in_the_sources_that_the_recipe_names(tmp_path):
    rows = [
        {
            "id": "a_0",
            "conversations": [{"from": "human", "value": "Who are you?"}, {"from": "gpt", "value": "ChatGPT."}],
        }
    ]
    path = written(tmp_path, rows)
    assert verdicts(curated("sharegpt", path)) == [(1, "keywords", "self-reference: chatgpt")]
    assert verdicts(curated("sharegpt", path, keywords_in=())) == [(1, None, None)]


def test_filters_can_be_switched_off(tmp_path):
    rows = [alpaca("Warum ist der Himmel am Morgen so blau und am Abend so rot?"), alpaca(PROMPT)]
    path = written(tmp_path, rows)
    kept = curated("alpaca", path, english=False, prompts=())
    assert verdicts(kept) == [(1, None, None), (2, None, None)]
    prompts = curated("alpaca", path, english=False, drop_contaminated=False)
    assert [row["hits"] for row in prompts] == [[], [0]]
    assert verdicts(prompts) == [(1, None, None), (2, None, None)]


def test_both_sides_of_a_pair_share_their_split_and_their_key(tmp_path):
    rows = [
        {
            "chosen": f"\n\nHuman: What is {n}?\n\nAssistant: Good.",
            "rejected": f"\n\nHuman: What is {n}?\n\nAssistant: Bad.",
        }
        for n in range(60)
    ]
    sides = curated("hh", written(tmp_path, rows), heldout=0.5)
    assert len(sides) == 120
    for one, other in zip(sides[::2], sides[1::2], strict=True):
        assert (one["pair"], one["split"], one["key"]) == (other["pair"], other["split"], other["key"])
    assert {row["split"] for row in sides} == {"train", "heldout"}


def test_a_row_that_cannot_be_read_has_its_place_and_the_others_stay(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"instruction": "a b", "output": "x"}\n{"instruction": "cut o\n{"instruction": "d e f", "output": "y\xff"}\n'
    )
    assert verdicts(curated("alpaca", path)) == [
        (1, None, None),
        (2, "read", "not valid JSON"),
        (3, "read", "not valid UTF-8"),
    ]


@pytest.mark.parametrize("source", sorted(SAMPLE_SOURCES))
def test_blocks_make_no_difference(source, tmp_path, monkeypatch):
    write_samples(tmp_path)
    for path in sorted(tmp_path.glob(SAMPLE_SOURCES[source][0])):
        whole = curated(source, path)
        monkeypatch.setattr(worker, "ROWS_PER_BLOCK", 7)
        assert curated(source, path) == whole
        monkeypatch.setattr(worker, "BYTES_PER_BLOCK", 1)
        assert curated(source, path) == whole
        monkeypatch.undo()
        assert whole


def test_near_duplicates_get_a_signature(tmp_path):
    path = written(tmp_path, [alpaca("Why is the sky blue in the morning?")])
    assert curated("alpaca", path)[0]["signature"] is None
    assert curated("alpaca", path, near_duplicates=True)[0]["signature"]
