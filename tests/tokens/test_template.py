"""Koala's template: bytes, ids and masks against the golden file, and what must hold for any dialogue."""

from __future__ import annotations

import json

import pytest
from conftest import GOLDEN, golden_dialogues
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.records import Turn
from koala_ray.tokens.template import as_text, asking, fit, prompt_ids, render, segments

CASES = json.loads((GOLDEN / "template.json").read_text(encoding="utf-8"))
DIALOGUES = golden_dialogues()
KINDS = ("bytes", "sentencepiece", "smollm2")
texts = st.text(min_size=1, max_size=40)


@st.composite
def dialogues(draw) -> list[Turn]:
    turns = []
    for _ in range(draw(st.integers(1, 4))):
        marker = draw(st.sampled_from(["positive", "negative", "none"]))
        turns += [Turn("user", draw(texts)), Turn("assistant", draw(texts), marker, draw(st.booleans()))]
    return turns


def test_the_published_example_byte_for_byte():
    turns = [*DIALOGUES["koala"][:3]]
    assert as_text(turns) == (
        "BEGINNING OF CONVERSATION: USER: Hello! GPT:Hi! How can I help you?</s>"
        "USER: What is the largest animal on earth? GPT:"
    )


@pytest.mark.parametrize("name", CASES)
def test_text_is_golden(name):
    assert as_text(DIALOGUES[name]) == CASES[name]["text"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_ids_and_mask_are_golden(name, kind, tokenizers):
    rendered = render([DIALOGUES[name]], tokenizers[kind])[0]
    assert rendered.ids == CASES[name]["ids"][kind]
    assert "".join(map(str, map(int, rendered.learn))) == CASES[name]["learn"][kind]


@pytest.mark.parametrize("name", CASES)
def test_sentencepiece_ids_are_those_of_sentencepiece_itself(name, tokenizers, sentencepiece_folder):
    """Segment by segment, as Koala tokenized: nothing of ours between."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=str(sentencepiece_folder / "tokenizer.model"))
    expected = [processor.bos_id()]
    for segment in segments(DIALOGUES[name]):
        expected += processor.encode(segment.text) + ([processor.eos_id()] if segment.ends else [])
    assert render([DIALOGUES[name]], tokenizers["sentencepiece"])[0].ids == expected


def test_a_sentencepiece_answer_begins_with_a_space_piece(tokenizers):
    tokenizer = tokenizers["sentencepiece"]
    rendered = render([DIALOGUES["single"]], tokenizer)[0]
    assert tokenizer.piece(rendered.ids[rendered.learn.index(True)]).startswith("▁")


@pytest.mark.parametrize("kind", KINDS)
def test_typed_markers_are_text(kind, tokenizers):
    """A user who types the end-of-sequence token ends nothing: one real end, at the answer's end."""
    tokenizer = tokenizers[kind]
    rendered = render([DIALOGUES["markers_typed_by_the_user"]], tokenizer)[0]
    assert rendered.ids.count(tokenizer.eos_id) == 1
    assert rendered.ids[-1] == tokenizer.eos_id
    if tokenizer.bos_id is not None:
        assert rendered.ids.count(tokenizer.bos_id) == 1


@pytest.mark.parametrize("kind", KINDS)
@given(turns=dialogues())
def test_a_dialogue_grows_by_appending(kind, tokenizers, turns):
    """Invariant 5: the ids before each answer are the same in training and for a model that answers next."""
    tokenizer = tokenizers[kind]
    whole = render([turns], tokenizer)[0].ids
    for place in range(1, len(turns), 2):
        asked = prompt_ids(turns[:place], tokenizer, turns[place].marker)
        assert whole[: len(asked)] == asked
        answered = render([turns[: place + 1]], tokenizer)[0].ids
        assert whole[: len(answered)] == answered
        assert answered[: len(asked)] == asked


@pytest.mark.parametrize("kind", KINDS)
@given(turns=dialogues())
def test_learnt_are_the_answers_and_their_ends_alone(kind, tokenizers, turns):
    """Invariant 4: never a user's token; the end-of-sequence token once per learnt answer."""
    tokenizer = tokenizers[kind]
    rendered = render([turns], tokenizer)[0]
    learnt = [token for token, learn in zip(rendered.ids, rendered.learn, strict=True) if learn]
    expected: list[int] = []
    for turn in turns:
        if turn.learn:
            expected += [*tokenizer.encode([turn.text])[0], tokenizer.eos_id]
    assert learnt == expected


@given(turns=dialogues(), context=st.integers(8, 400))
def test_fit_cuts_at_an_answer_or_inside_the_first(tokenizers, turns, context):
    rendered = render([turns], tokenizers["bytes"])[0]
    fitted, note = fit(rendered, context)
    if fitted is None:
        assert note in ("nothing to learn", "longer than the context")
        return
    assert fitted.learnt > 0
    assert len(fitted.ids) <= context
    assert fitted.ids == rendered.ids[: len(fitted.ids)]
    assert fitted.learn == rendered.learn[: len(fitted.ids)]
    assert note == ("" if len(rendered.ids) <= context else "cut")
    if note and rendered.ends[0] <= context:
        assert len(fitted.ids) == max(end for end in rendered.ends if end <= context)


def test_dialogues_must_alternate():
    with pytest.raises(ValueError, match="alternates"):
        list(segments([Turn("assistant", "Hi!")]))
    with pytest.raises(ValueError, match="must be the user's"):
        asking([Turn("user", "Hi!"), Turn("assistant", "Hello!")])
