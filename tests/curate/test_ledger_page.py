"""The ledger as a page: its numbers, tables and figures, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from html_reader import Reader
from hypothesis import given, settings
from ledgers import EVIL, koala, ledger, ledgers, source

from koala_ray.curate.ledger_page import page

TOKENS_ONLY = ("tokens", "learnt_tokens", "packs", "fill", "context", "epochs", "base", "heldout")
SOURCE_TOKENS_ONLY = ("tokens", "learnt_tokens", "dialogues", "cut", "split", "lengths")
PROVENANCE = {"seed": 7, "inputs": {"files": [{"path": "hc3.jsonl", "sha256": "ab" * 32}]}, "none": None, "empty": {}}


def of_curate_step(made: Mapping[str, Any]) -> dict[str, Any]:
    sources = {
        name: {key: value for key, value in entry.items() if key not in SOURCE_TOKENS_ONLY}
        for name, entry in made["sources"].items()
    }
    return {key: value for key, value in made.items() if key not in TOKENS_ONLY} | {"sources": sources}


def test_published_counts_stand_beside_ours_with_the_deviation() -> None:
    rows = Reader(page(koala(), "t", {})).tables["Rows by source: in = kept + rejected"]
    assert rows[1] == ["sharegpt", "59,873", "31,130", "28,743", "60,000", "−0.2 %", "30,000", "+3.8 %"]
    assert rows[2] == ["hc3", "85,449", "83,918", "1,531", "87,000", "−1.8 %", "–", "–"]
    assert rows[4] == ["all", "145,322", "115,048", "30,274", "199,000", "−27.0 %", "–", "–"]


def test_reasons_stand_by_source_and_filter() -> None:
    read = Reader(page(koala(), "t", {}))
    assert read.tables["Why rows were rejected: filters with their rows in → rows kept"] == [
        ["filter", "rejected", "reason"],
        ["sharegpt 59,873 in = 31,130 kept + 28,743 rejected"],
        ["duplicates 59,873 → 31,130", "28,743", "same question"],
        ["hc3 85,449 in = 83,918 kept + 1,531 rejected"],
        ["layout 85,449 → 85,134", "315", "empty answer"],
        ["language 85,134 → 83,920", "1,207", "not English: zh"],
        ["7", "not English: de"],
        ["length 83,920 → 83,918", "2", "longer than the context"],
        ["alpaca 0 in = 0 kept + 0 rejected"],
    ]


def test_all_numbers_of_the_ledger_are_there() -> None:
    made = koala()
    text = " ".join(Reader(page(made, "t", {})).texts)
    assert "99.5 % full" in text

    def numbers(value: Any, key: str = "") -> list[int]:
        if isinstance(value, Mapping):
            return [number for name, item in value.items() for number in numbers(item, name)]
        if isinstance(value, list):
            return [number for item in value for number in numbers(item, key)]
        return [value] if isinstance(value, int) else []

    for number in numbers(made):
        assert re.search(rf"(?<![\d,]){number:,}(?![\d])", text), number
    assert made["base"] in text
    assert "about 24K questions" in text


def test_a_curate_steps_ledger_gives_what_is_there() -> None:
    made = of_curate_step(koala())
    text = page(made, "t", {})
    read = Reader(text)
    assert len([tag for tag, _ in read.tags if tag == "svg"]) == 1
    assert set(read.tables) == {
        "Rows by source: in = kept + rejected",
        "Why rows were rejected: filters with their rows in → rows kept",
        "What was repaired",
        "Evaluation prompts that rows came too close to",
    }
    assert not [text for text in read.texts if "token" in text.lower() and "{" not in text]
    del made["prompts"]
    assert "Evaluation prompts" not in page(made, "t", {})


def test_the_whole_page_has_its_figures_and_tables() -> None:
    read = Reader(page(koala(), "t", PROVENANCE))
    assert [tag for tag, _ in read.tags].count("svg") == 3
    assert read.tables["Dialogues by tokens"][0] == ["source", "0–31", "32–63", "64–127", "128–255", "256–511", "512+"]
    assert read.tables["Dialogues by tokens"][2][1:] == ["1,100", "9,100", "31,000", "30,400", "12,000", "318"]
    assert read.tables["Evaluation prompts that rows came too close to"][1] == ["koala", "180", "42", "23.3 %"]
    assert {"seed", "7", "inputs", "files", "sha256", "ab" * 32} <= set(read.texts)


@settings(deadline=None, max_examples=6)
@given(ledgers())
def test_any_balanced_ledger_makes_a_well_formed_page(made: dict[str, Any]) -> None:
    text = page(made, EVIL, {EVIL: [EVIL, 1.5, {"b": ()}]})
    text.encode()
    read = Reader(text)
    tags = [tag for tag, _ in read.tags]
    assert tags.count("html") == tags.count("h1") == tags.count("main") == 1
    assert not {"script", "img", "link", "iframe"} & set(tags)
    assert not [found for _, found in read.tags if any(name.startswith("on") for name in found)]
    assert read.texts.count(EVIL) >= 4  # title twice, provenance twice
    for rows in read.tables.values():
        assert rows


def test_the_page_needs_nothing_from_elsewhere_and_tells_no_time() -> None:
    text = page(koala(), "t", PROVENANCE)
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"20[2-9]\d-\d\d", text)


def test_equal_ledgers_give_equal_bytes_in_whatever_order_they_are_written() -> None:
    made = koala()
    turned = json.loads(json.dumps(made, sort_keys=True))
    assert list(turned["sources"]) != ["sharegpt", "hc3", "alpaca"]
    assert page(made, "t", PROVENANCE) == page(turned, "t", dict(reversed(PROVENANCE.items())))


def test_figures_and_tables_can_be_read_without_seeing() -> None:
    read = Reader(page(koala(), "t", PROVENANCE))
    assert read.tags[0] == ("html", {"lang": "en"})
    for tag, found in read.tags:
        if tag == "svg":
            assert found["role"] == "img"
            assert found["aria-label"]
        if tag == "th":
            assert found["scope"] in ("col", "row", "rowgroup")
        assert "id" not in found
    assert (
        [tag for tag, _ in read.tags].count("caption")
        == [tag for tag, _ in read.tags].count("table")
        == len(read.tables)
    )
    assert [tag for tag, _ in read.tags].count("figcaption") == 3


def test_light_and_dark_have_the_same_colours_defined() -> None:
    style = page(koala(), "t", {}).split("<style>")[1].split("</style>")[0]
    light, dark = (re.findall(r"--([\w-]+):#", part) for part in style.split("@media(prefers-color-scheme:dark)"))
    assert light == dark
    assert set(re.findall(r"var\(--([\w-]+)\)", page(koala(), "t", {}))) <= set(light)


def test_no_rejected_row_and_no_source_still_make_a_page() -> None:
    assert "5 in = 5 kept + 0 rejected" in page(ledger({"hc3": source(5)}), "t", {})
    assert "0 rows in = 0 kept + 0 rejected, from 0 sources" in page(ledger({}), "t", {})


def test_a_ledger_that_does_not_balance_is_no_page() -> None:
    made = koala()
    made["rows_in"] += 1
    with pytest.raises(ValueError, match="rows_in"):
        page(made, "t", {})
