"""From tokens to text: pieces that add up, half characters, stop strings, ends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.generate.answering import Piece, Text, answer
from koala_ray.generate.engine import Token
from koala_ray.generate.sampling import Sampling


class Scripted:
    """Gives the tokens that it was told to give."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.closed, self.at_once = ids, False, False

    async def generate(self, ids, sampling, eos_id, at_once=False):
        self.at_once = at_once
        try:
            for id_ in self.ids:
                yield Token(id_)
        finally:
            self.closed = True


def answered(tokenizer, ids: list[int], max_tokens: int = 0, stop: tuple[str, ...] = ()) -> list[Piece]:
    engine = Scripted(ids)

    async def pieces() -> list[Piece]:
        found = answer(engine, tokenizer, [1], Sampling(max_tokens or len(ids) + 1, stop=stop))  # type: ignore[arg-type]
        return [piece async for piece in found]

    found = asyncio.run(pieces())
    assert engine.closed
    return found


@pytest.mark.parametrize("stop", [(), ("x",)])
def test_tokens_may_come_all_at_the_end_where_none_of_them_can_end_the_answer(tokenizers, stop):
    tokenizer, engine = tokenizers["bytes"], Scripted([65, 66])

    async def whole() -> str:
        pieces = answer(engine, tokenizer, [1], Sampling(2, stop=stop), at_once=True)  # type: ignore[arg-type]
        return text_of([piece async for piece in pieces])

    assert asyncio.run(whole()) == tokenizer.decode([65, 66])
    assert engine.at_once == (not stop)


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "smollm2"])
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_the_pieces_are_the_whole_text(tokenizers, kind, data):
    tokenizer = tokenizers[kind]
    written = data.draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
    (ids,) = tokenizer.encode([written])
    pieces = answered(tokenizer, [*ids, tokenizer.eos_id])
    assert text_of(pieces) == tokenizer.decode(ids)
    assert pieces[-1].finish == "stop"
    assert pieces[-1].ended
    assert [token.id for piece in pieces for token in piece.tokens] == ids


def test_a_character_comes_whole(tokenizers):
    tokenizer = tokenizers["smollm2"]
    (ids,) = tokenizer.encode(["a🐨b"])
    assert [piece.text for piece in answered(tokenizer, ids) if piece.text] == ["a", "🐨", "b"]


def test_half_a_character_at_the_end_is_told_as_such(tokenizers):
    tokenizer = tokenizers["smollm2"]
    (ids,) = tokenizer.encode(["a🐨"])
    pieces = answered(tokenizer, ids[:-1], len(ids) - 1)
    assert text_of(pieces) == tokenizer.decode(ids[:-1])
    assert pieces[-1].finish == "length"
    assert not pieces[-1].ended


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (("USER:",), "one two "),
        (("two", "one"), ""),
        (("three!",), None),
        (("o U",), "one tw"),
        (("x", "SER"), "one two U"),
    ],
)
def test_a_stop_string_ends_the_text_before_it(tokenizers, stop, expected):
    tokenizer = tokenizers["smollm2"]
    whole = "one two USER: three"
    (ids,) = tokenizer.encode([whole])
    pieces = answered(tokenizer, [*ids, tokenizer.eos_id], stop=stop)
    assert text_of(pieces) == (whole if expected is None else expected)
    assert pieces[-1].finish == "stop"
    assert pieces[-1].ended == (expected is None)


@given(st.text("ab", max_size=20), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
@settings(deadline=None)
def test_what_is_held_back_is_never_lost(tokenizers, written, stop):
    tokenizer = tokenizers["bytes"]
    (ids,) = tokenizer.encode([written])
    text, said, stopped = Text(tokenizer, stop), "", False
    for id_ in ids:
        grown, stopped = text.add(id_)
        said += grown
        if stopped:
            break
    said += text.rest()
    places = [(place + len(string), place) for string in stop if (place := written.find(string)) >= 0]
    # The string that is complete first ends the text; of several at once, the one that begins first.
    expected = written[: min(place for end, place in places if end == min(places)[0])] if places else written
    assert said == expected
    assert stopped == bool(places)
