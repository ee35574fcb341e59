"""What holds for all sources of two answers to one question: HH, WebGPT and the comparisons of summaries."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from comparisons import HALF, SOURCES, compared, flat, parsed, parsed_or_rejected, reasons, talk
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import JSON

from koala_ray.samples import layouts
from koala_ray.sources.base import Source


def sample(source: str) -> Iterator[Any]:
    data = getattr(layouts, source)()
    return map(json.loads, (gzip.decompress(data) if source == "hh" else data).splitlines())


@pytest.mark.parametrize("source", SOURCES)
def test_the_sample_corpus_is_read(source: str) -> None:
    rows = list(sample(source))
    assert len(rows) > 10
    ties = 0
    for row in rows:
        tie = row.get("score_0") == 0
        ties += tie
        assert reasons(source, row) == ["tie" if tie else ""] * 2
        assert not any(found.repairs for found in parsed(source, row))
    assert bool(ties) == (source == "webgpt")


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_source_says_what_it_is(source: Source) -> None:
    assert all((source.title, source.licence, source.citation, source.home, source.published))
    assert source.many_answers
    assert source.published_rows
    names = [file.name for file in source.files]
    assert len(set(names)) == len(names) == len({file.url for file in source.files}) > 0
    assert all(name.startswith(f"{source.name}/") for name in names)
    assert all(file.url.startswith("https://") for file in source.files)


TEXT = st.sampled_from(["", " ", "a", "b\n", "\0", HALF]) | JSON
PIECES = ["\n\nHuman:", "\n\nAssistant:", "Human:", "\n", " ", "a", "b", "\0", HALF]
TALK = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
ROLE = st.sampled_from(["user", "assistant", "system", "human"])
MESSAGE = st.fixed_dictionaries({}, optional={"role": ROLE | JSON, "content": TEXT})
SIDE = TALK | st.lists(MESSAGE | JSON, max_size=4) | JSON
QUESTION = st.fixed_dictionaries({}, optional={"full_text": TEXT}) | TEXT
COLUMN = st.lists(TEXT, max_size=2) | JSON
QUOTE = st.fixed_dictionaries({}, optional={"title": TEXT, "extract": TEXT})
QUOTES = st.fixed_dictionaries({}, optional={"title": COLUMN, "extract": COLUMN}) | st.lists(QUOTE, max_size=2) | JSON
SCORE = st.sampled_from([-1, 0, 0.5, 10**400, math.inf, math.nan]) | JSON
ANSWER = {"answer": TEXT, "quotes": QUOTES, "score": SCORE}
SUMMARY = st.fixed_dictionaries({}, optional={"text": TEXT}) | JSON
INFO = st.fixed_dictionaries({}, optional={"post": TEXT, "article": TEXT, "title": TEXT})
NEARLY: dict[str, st.SearchStrategy[Any]] = {
    "hh": st.fixed_dictionaries({}, optional={"chosen": SIDE, "rejected": SIDE, "transcript": JSON}),
    "webgpt": st.fixed_dictionaries(
        {}, optional={"question": QUESTION, **{f"{name}_{at}": of for name, of in ANSWER.items() for at in (0, 1)}}
    )
    | st.lists(st.fixed_dictionaries({}, optional={"question": QUESTION, **ANSWER}) | JSON, min_size=1, max_size=3),
    "summarize": st.fixed_dictionaries(
        {},
        optional={
            "info": INFO | JSON,
            "summaries": st.lists(SUMMARY, min_size=2, max_size=2) | JSON,
            "choice": st.sampled_from([0, 1]) | JSON,
            "summary": JSON,
        },
    ),
}


@pytest.mark.parametrize("source", SOURCES)
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_row_is_kept_or_rejected_side_by_side(source: str, data: st.DataObject) -> None:
    row = data.draw(NEARLY[source] | JSON)
    SOURCES[source].refused(row)
    founds = parsed_or_rejected(source, row)
    assert isinstance(founds, str) or [found.side for found in founds] == ["chosen", "rejected"]
    assert founds
    assert founds == parsed_or_rejected(source, row)


WORDS = st.text(min_size=1).filter(lambda text: text.strip() and "\n\n" not in text and "\0" not in text)
TURNS = st.lists(WORDS, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2 == 1)
ANSWERS = st.tuples(WORDS, WORDS).filter(lambda texts: texts[0].strip() != texts[1].strip())
WELL_FORMED: dict[str, st.SearchStrategy[Any]] = {
    "hh": st.builds(
        lambda turns, answers: {"chosen": talk(*turns, answers[0]), "rejected": talk(*turns, answers[1])},
        TURNS,
        ANSWERS,
    ),
    "webgpt": st.builds(
        lambda question, answers, score: flat(
            question=question, answer_0=answers[1], answer_1=answers[0], score_0=-score, score_1=score
        ),
        WORDS,
        ANSWERS,
        st.floats(min_value=0.01, max_value=1),
    ),
    "summarize": st.builds(
        lambda post, answers: compared(
            info={"post": post}, summaries=[{"text": answers[1]}, {"text": answers[0]}], choice=1
        ),
        WORDS,
        ANSWERS,
    ),
}


@pytest.mark.parametrize("source", SOURCES)
@settings(deadline=None, max_examples=100)
@given(data=st.data(), seed=st.integers(0, 3))
def test_a_well_formed_comparison_gives_two_dialogues(source: str, data: st.DataObject, seed: int) -> None:
    row = data.draw(WELL_FORMED[source])
    better, worse = parsed(source, row, seed)
    assert better.dialogue
    assert worse.dialogue
    assert better.dialogue[-1].learn
    assert worse.dialogue[-1].learn
    assert better.dialogue[:-1] == worse.dialogue[:-1] or source == "webgpt"
    assert better.dialogue[-1].text != worse.dialogue[-1].text
