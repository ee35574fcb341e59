from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.errors import KoalaError
from koala_ray.mixture import DISTILLED, MIXTURES, OPEN, choose_sources, condition, copies
from koala_ray.recipe import DataSettings
from koala_ray.records import Marker, Turn

PAIRS = [f"hh/a.jsonl#{line}" for line in range(2000)]


def ask(text: str) -> Turn:
    return Turn("user", text)


def answer(text: str, marker: Marker = "none", learn: bool = False) -> Turn:
    return Turn("assistant", text, marker, learn)


WORSE = (ask("a"), answer("b"), ask("c"), answer("d", "negative", True), ask("e"), answer("f"))
PLAIN = (ask("a"), answer("b", "positive", True), ask("c"), answer("d", "positive", True))


def test_the_named_mixtures_are_koalas() -> None:
    assert MIXTURES["koala-distill"].sources == ("sharegpt", "hc3")
    assert set(MIXTURES["koala-all"].sources) == {*DISTILLED, *OPEN}
    assert MIXTURES["koala-all-positive"].sources == MIXTURES["koala-all"].sources
    assert set(MIXTURES["open-source-only"].sources) == {"oig", "alpaca", "hh", "webgpt", "summarize"}
    assert [name for name, mixture in MIXTURES.items() if not mixture.negatives] == ["koala-all-positive"]


def test_a_mixture_chooses_its_sources_by_their_usual_names() -> None:
    chosen = choose_sources(DataSettings(mixture="koala-distill", sources={"hc3": ["my/*.jsonl"]}))
    assert chosen.sources["hc3"] == ["my/*.jsonl"]
    assert "sharegpt*.json" in chosen.sources["sharegpt"]
    assert set(chosen.sources) == {"sharegpt", "hc3"}
    found = DataSettings(sources={"alpaca": ["x"]})
    assert choose_sources(found) == found


def test_identity_rows_come_only_where_they_are_named() -> None:
    assert "identity" not in choose_sources(DataSettings(mixture="koala-all")).sources
    named = choose_sources(DataSettings(mixture="koala-all", sources={"identity": ["me.jsonl"]}))
    assert named.sources["identity"] == ["me.jsonl"]
    assert len(named.sources) == 8


def test_files_for_a_source_that_the_mixture_lacks_are_refused() -> None:
    with pytest.raises(KoalaError) as caught:
        choose_sources(DataSettings(mixture="koala-distill", sources={"alpaca": ["x"]}))
    assert caught.value.error == "the mixture koala-distill has no alpaca"
    assert "data.mixture" in caught.value.mend


def test_only_the_parting_answer_is_learnt_and_nothing_follows_it() -> None:
    assert condition(WORSE, DataSettings()) == WORSE[:4]
    assert condition(PLAIN, DataSettings()) == PLAIN


def test_koalas_way_marks_and_learns_every_answer() -> None:
    turns = condition(WORSE, DataSettings(conditioning="every"))
    assert [turn.text for turn in turns] == ["a", "b", "c", "d", "e", "f"]
    assert [(turn.marker, turn.learn) for turn in turns if turn.role == "assistant"] == [("negative", True)] * 3
    assert condition(PLAIN, DataSettings(conditioning="every")) == PLAIN


@pytest.mark.parametrize("conditioning", ["parting", "every"])
def test_the_positive_mixture_leaves_the_worse_side_out(conditioning) -> None:
    data = DataSettings(mixture="koala-all-positive", conditioning=conditioning)
    assert condition(WORSE, data) == ()
    assert condition(PLAIN, data) == PLAIN
    assert condition(WORSE, DataSettings(mixture="koala-all", conditioning=conditioning)) != ()


@pytest.mark.parametrize(("repeats", "mean"), [(1.0, 1.0), (2.0, 2.0), (0.5, 0.5), (2.25, 2.25), (0.01, 0.01)])
def test_repeats_are_whole_copies_and_a_drawn_part(repeats: float, mean: float) -> None:
    data = DataSettings(repeats={"hh": repeats})
    drawn = [copies("hh", pair, data) for pair in PAIRS]
    assert set(drawn) <= {int(repeats), int(repeats) + 1}
    part = repeats - int(repeats)
    # Four standard errors: the hash is fixed, so this passes always or never.
    assert abs(sum(drawn) / len(PAIRS) - mean) <= 4 * (part * (1 - part) / len(PAIRS)) ** 0.5
    assert {copies("hc3", pair, data) for pair in PAIRS} == {1}


@given(st.text(), st.floats(0.01, 5), st.floats(0.01, 5), st.integers())
def test_more_repeats_read_a_pair_no_less_often(pair: str, one: float, other: float, seed: int) -> None:
    less, more = sorted([one, other])
    counts = [copies("hh", pair, DataSettings(repeats={"hh": repeats}, seed=seed)) for repeats in (less, more)]
    assert counts[0] <= counts[1]


def test_seeds_draw_differently() -> None:
    def drawn(seed: int) -> set[str]:
        data = DataSettings(repeats={"hh": 0.5}, seed=seed)
        return {pair for pair in PAIRS if copies("hh", pair, data)}

    assert 0.4 < len(drawn(0) & drawn(1)) / len(drawn(0)) < 0.6
