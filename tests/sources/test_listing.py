from __future__ import annotations

import json

import pytest

from koala_ray.sources.base import PublicFile, Source
from koala_ray.sources.listing import sources_json, sources_text
from koala_ray.sources.registry import SOURCES

LARGE = Source(
    name="summarize",
    title="A [bold]title[/bold] of a data set",
    licence="unclear: conversations that were shared by their users",
    citation="Somebody et al., A rather long title of a rather long paper about comparisons of texts, 2020",
    home="https://example.org/" + "deep/" * 9,
    published="about 30K dialogues of grade-school-math-instructions and plot-screenplay-books-dialogue",
    published_rows=30_000,
    published_kept=None,
    files=tuple(PublicFile(f"https://example.org/{part}.json", f"summarize/{part}.json") for part in range(23)),
    parse=lambda value, seed: iter(()),
)
OWN = Source("identity", "Your own rows", "your own", "Nobody", "", "none", None, None, (), LARGE.parse)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_nothing_is_cut_off_at_any_width(width: int) -> None:
    text = sources_text([LARGE, OWN], width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert "23 files" in text


def test_no_word_is_broken_at_a_hundred_columns() -> None:
    words = sources_text([LARGE, OWN], 100).split()
    for said in (LARGE.title, LARGE.licence, LARGE.published, LARGE.citation, LARGE.home):
        for word in said.split():
            assert word in words


def test_each_source_has_its_row_and_its_block() -> None:
    lines = sources_text(list(SOURCES.values())).splitlines()
    for name, source in SOURCES.items():
        row, block = (line for line in lines if line.lstrip().startswith(f"{name} "))
        assert source.published.split()[0] in row
        assert source.title in block


def test_a_source_without_files_to_fetch_says_so() -> None:
    row = next(line for line in sources_text([OWN]).splitlines() if line.startswith(" identity"))
    assert row.split()[-1] == "-"


def test_the_json_form_holds_all_that_a_script_needs() -> None:
    described = json.loads(json.dumps(sources_json([LARGE, OWN])))["sources"]
    assert list(described) == ["summarize", "identity"]
    large = described["summarize"]
    assert large["files"][22] == {"url": "https://example.org/22.json", "name": "summarize/22.json"}
    assert (large["published_rows"], large["published_kept"]) == (30_000, None)
    assert "summarize/**.jsonl.gz" in large["reads"]
    assert large.keys() == described["identity"].keys()
    assert {"title", "licence", "published", "citation", "home"} < large.keys()
