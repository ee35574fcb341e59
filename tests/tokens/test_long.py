"""Splitting long dialogues: every learnt answer in exactly one piece, with its history, within the context."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from koala_ray.records import Turn
from koala_ray.tokens.long import exchange_lengths, opening_tokens, split
from koala_ray.tokens.template import Rendered, render

KINDS = ("bytes", "sentencepiece", "smollm2")


def dialogue(learnt: list[bool]) -> list[Turn]:
    """Exchange i asks ``q<i>`` and answers ``a<i>``."""
    return [
        turn
        for place, learn in enumerate(learnt)
        for turn in (Turn("user", f"q{place}"), Turn("assistant", f"a{place}", "positive", learn))
    ]


def places(piece: tuple[Turn, ...]) -> list[int]:
    return [int(turn.text[1:]) for turn in piece[::2]]


def shown(pieces: list[tuple[Turn, ...]]) -> list[str]:
    """Each piece as its exchanges' numbers, the learnt ones with a star."""
    return [
        " ".join(f"{place}{'*' if turn.learn else ''}" for place, turn in zip(places(piece), piece[1::2], strict=True))
        for piece in pieces
    ]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[bool], list[int], int, int, float]:
    learnt = draw(st.lists(st.booleans(), min_size=1, max_size=25))
    tokens = draw(st.lists(st.integers(1, 60), min_size=len(learnt), max_size=len(learnt)))
    return learnt, tokens, draw(st.integers(0, 10)), draw(st.integers(20, 120)), draw(st.floats(0, 1))


@given(cases())
def test_each_learnt_answer_is_learnt_in_exactly_one_piece_in_order(case) -> None:
    learnt, tokens, opening, context, history = case
    pieces = split(dialogue(learnt), tokens, opening, context, history)
    texts = [turn.text for piece in pieces for turn in piece if turn.learn]
    assert texts == [f"a{place}" for place, learn in enumerate(learnt) if learn]


@given(cases())
def test_a_piece_is_a_run_of_exchanges_within_the_context(case) -> None:
    learnt, tokens, opening, context, history = case
    turns = dialogue(learnt)
    for piece in split(turns, tokens, opening, context, history):
        run = places(piece)
        assert run == list(range(run[0], run[-1] + 1))
        assert [turn.text for turn in piece] == [turn.text for turn in turns[2 * run[0] : 2 * run[-1] + 2]]
        assert [turn.role for turn in piece] == ["user", "assistant"] * len(run)
        assert piece[-1].learn, "nothing follows the last learnt answer"
        assert opening + sum(tokens[place] for place in run) <= context or len(run) == 1


@given(cases())
def test_history_is_what_went_right_before_and_is_limited(case) -> None:
    learnt, tokens, opening, context, history = case
    held = 0
    for piece in split(dialogue(learnt), tokens, opening, context, history):
        run, stars = places(piece), [turn.learn for turn in piece[1::2]]
        first = run[stars.index(True)]
        before = [place for place in run if place < first]
        assert sum(tokens[place] for place in before if place < held) <= history * context
        # One more would have been too much: it isn't left out for nothing.
        if run[0] > 0:
            more = [run[0] - 1, *before]
            assert sum(tokens[place] for place in [*more, first]) > context - opening or sum(
                tokens[place] for place in more if place < held
            ) > int(history * context)
        held = run[-1] + 1


@given(cases())
def test_a_piece_ends_where_the_next_learnt_answer_would_not_fit(case) -> None:
    learnt, tokens, opening, context, history = case
    pieces = split(dialogue(learnt), tokens, opening, context, history)
    for piece in pieces[:-1]:
        run = places(piece)
        following = next(place for place in range(run[-1] + 1, len(learnt)) if learnt[place])
        assert opening + sum(tokens[run[0] : following + 1]) > context


@given(cases())
def test_a_dialogue_that_fits_stays_whole(case) -> None:
    learnt, tokens, opening, context, history = case
    assume(opening + sum(tokens) <= context and learnt[-1])
    assert split(dialogue(learnt), tokens, opening, context, history) == [tuple(dialogue(learnt))]


@pytest.mark.parametrize(
    ("learnt", "tokens", "expected"),
    [
        # 90 tokens are left after the opening, 25 of them may repeat what was learnt before.
        ("*****", [30, 30, 30, 20, 40], ["0* 1* 2*", "3* 4*"]),
        ("****", [45, 45, 20, 30], ["0* 1*", "2* 3*"]),
        ("*****", [30, 30, 20, 20, 50], ["0* 1* 2*", "2 3* 4*"]),
        ("****", [60, 10, 15, 70], ["0* 1* 2*", "2 3*"]),
        ("***", [70, 20, 90], ["0* 1*", "2*"]),  # history gives way
        ("***", [10, 91, 10], ["0*", "1*", "2*"]),  # the second alone is too long
        ("...*", [50, 40, 30, 10], ["1 2 3*"]),  # one learnt answer: all that fits before it
        ("...*", [20, 30, 30, 91], ["3*"]),
        ("*..*.", [10, 80, 20, 20, 10], ["0*", "2 3*"]),
        ("*..*.", [10, 20, 20, 20, 90], ["0* 1 2 3*"]),
        ("...", [50, 50, 50], []),
    ],
)
def test_what_goes_where(learnt: str, tokens: list[int], expected: list[str]) -> None:
    pieces = split(dialogue([sign == "*" for sign in learnt]), tokens, opening=10, context=100)
    assert shown(pieces) == expected


def test_markers_are_kept_and_a_last_question_is_left_out() -> None:
    turns = [replace(turn, marker="negative") if turn.learn else turn for turn in dialogue([True] * 3)]
    first, second = split([*turns, Turn("user", "q3")], [60, 20, 60], opening=10, context=100)
    assert first == tuple(turns[:4])
    assert second == (turns[2], replace(turns[3], learn=False), *turns[4:])


def test_wrong_counts_are_refused() -> None:
    turns = dialogue([True, True])
    with pytest.raises(ValueError, match="2 exchanges, but 3 counts"):
        split(turns, [1, 2, 3], opening=0, context=10)
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(turns, [1, 2], opening=0, context=10, history=1.5)


@pytest.fixture(scope="module")
def long_dialogues(real_data: Path) -> list[list[Turn]]:
    """Real dialogues of several exchanges."""
    rows = json.loads((real_data / "sources" / "sharegpt_layout_oasst.json").read_text(encoding="utf-8"))
    said = [[message["value"] for message in row["conversations"]] for row in rows]
    return [
        [
            Turn("user", text) if place % 2 == 0 else Turn("assistant", text, "positive", learn=True)
            for place, text in enumerate(texts[: len(texts) // 2 * 2])
        ]
        for texts in said
        if len(texts) >= 4
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_real_pieces_have_the_tokens_that_were_counted(kind, tokenizers, long_dialogues) -> None:
    tokenizer, context = tokenizers[kind], 1500 if kind == "bytes" else 300
    opening = opening_tokens(tokenizer)
    pieces_in_all = 0
    for turns, whole in zip(long_dialogues, render(long_dialogues, tokenizer), strict=True):
        tokens = exchange_lengths(whole.ends, opening)
        assert opening + sum(tokens) == len(whole.ids)
        pieces = split(turns, tokens, opening, context)
        rendered = render(pieces, tokenizer)
        for piece, made in zip(pieces, rendered, strict=True):
            first, count = begins_at(turns, piece) // 2, len(piece) // 2
            assert len(made.ids) == opening + sum(tokens[first : first + count])
            assert len(made.ids) <= context or count == 1
        assert [token for made in rendered for token in learnt_ids(made)] == learnt_ids(whole)
        pieces_in_all += len(pieces)
    assert pieces_in_all > 1.2 * len(long_dialogues)


def begins_at(turns: list[Turn], piece: tuple[Turn, ...]) -> int:
    """The turn with which a piece begins."""
    texts = [turn.text for turn in piece]
    return next(place for place in range(len(turns)) if [turn.text for turn in turns[place:]][: len(texts)] == texts)


def learnt_ids(rendered: Rendered) -> list[int]:
    return [token for token, learn in zip(rendered.ids, rendered.learn, strict=True) if learn]
