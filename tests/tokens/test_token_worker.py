from __future__ import annotations

import pytest

from koala_ray.recipe import DataSettings, TokenSettings
from koala_ray.records import Example, Turn
from koala_ray.tokens.template import END
from koala_ray.tokens.worker import SCHEMA, group_of, tokenize_examples


def dialogue(*answers: str, marker="positive") -> tuple[Turn, ...]:
    return tuple(
        turn
        for number, answer in enumerate(answers)
        for turn in (Turn("user", f"Question {number}?"), Turn("assistant", answer, marker, learn=True))
    )


def example(turns: tuple[Turn, ...], name: str = "alpaca/f#1", split="train") -> Example:
    source = name.split("/")[0]
    return Example(name, source, turns, pair=name.rpartition("/")[0] if source == "hh" else name, split=split)


def rows(examples, tokenizer, data=None, **tokens):
    table = tokenize_examples(examples, tokenizer, TokenSettings(**tokens), data or DataSettings())
    assert table.schema == SCHEMA
    return table.to_pylist()


def learnt_text(row, tokenizer) -> str:
    """What is learnt of a row, the ends of answers written out."""
    ids = [token for token, learn in zip(row["ids"], row["learn"], strict=True) if learn]
    return "".join(END if token == tokenizer.eos_id else tokenizer.decode([token]) for token in ids)


@pytest.fixture
def tokenizer(tokenizers):
    return tokenizers["bytes"]


def test_a_short_dialogue_is_one_row(tokenizer):
    (row,) = rows([example(dialogue("One.", "Two."))], tokenizer)
    assert (row["id"], row["piece"], row["note"], row["copies"], row["filter"]) == ("alpaca/f#1", 0, "", 1, None)
    assert learnt_text(row, tokenizer) == "One.</s>Two.</s>"
    assert row["learnt"] == sum(row["learn"])


def test_a_long_dialogue_is_split_and_every_answer_is_learnt_once(tokenizer):
    answers = [f"Answer {number} " + "x" * 60 for number in range(9)]
    pieces = rows([example(dialogue(*answers))], tokenizer, context=400)
    assert len(pieces) > 1
    assert [row["piece"] for row in pieces] == list(range(len(pieces)))
    assert [row["note"] for row in pieces] == ["split"] + [""] * (len(pieces) - 1)
    assert [row["id"] for row in pieces] == [f"alpaca/f#1~{number}" for number in range(len(pieces))]
    assert "".join(learnt_text(row, tokenizer) for row in pieces) == "".join(f"{answer}</s>" for answer in answers)
    assert all(len(row["ids"]) <= 400 for row in pieces)
    # A later piece begins with what went before, which is not learnt.
    history = tokenizer.decode(pieces[1]["ids"])
    assert history.startswith("BEGINNING OF CONVERSATION: USER: Question")
    assert history.count("GPT:") > learnt_text(pieces[1], tokenizer).count("</s>")


def test_cut_and_drop(tokenizer):
    long = example(dialogue(*(f"Answer {number} " + "x" * 60 for number in range(9))))
    (cut,) = rows([long], tokenizer, context=300, long_dialogues="cut")
    assert (cut["note"], cut["id"]) == ("cut", "alpaca/f#1")
    assert learnt_text(cut, tokenizer).count("</s>") == 2
    (dropped,) = rows([long], tokenizer, context=300, long_dialogues="drop")
    assert (dropped["filter"], dropped["reason"], dropped["ids"]) == ("length", "longer than the context", [])


@pytest.mark.parametrize("way", ["split", "cut"])
def test_an_answer_that_is_too_long_by_itself_is_cut_and_its_end_not_learnt(tokenizer, way):
    (row,) = rows([example(dialogue("x" * 500))], tokenizer, context=100, long_dialogues=way)
    assert row["note"] == "cut"
    assert len(row["ids"]) == 100
    assert set(learnt_text(row, tokenizer)) == {"x"}


@pytest.mark.parametrize("way", ["split", "cut", "drop"])
def test_a_question_that_is_too_long_is_left_out(tokenizer, way):
    turns = (Turn("user", "y" * 500), Turn("assistant", "z", "positive", learn=True))
    (row,) = rows([example(turns)], tokenizer, context=100, long_dialogues=way)
    assert (row["filter"], row["reason"]) == ("length", "longer than the context")


def test_the_mixture_counts_copies_of_training_rows_only(tokenizer):
    examples = [example(dialogue("a"), "oig/f#1"), example(dialogue("b"), "oig/f#2", "heldout"), example(dialogue("c"))]
    found = rows(examples, tokenizer, DataSettings(repeats={"oig": 3}))
    assert [(row["id"], row["copies"]) for row in found] == [("oig/f#1", 3), ("oig/f#2", 1), ("alpaca/f#1", 1)]


def test_what_the_mixture_leaves_out_is_accounted_for(tokenizer):
    sides = [example(dialogue("a"), "hh/f#1/chosen"), example(dialogue("b", marker="negative"), "hh/f#1/rejected")]
    found = rows(sides, tokenizer, DataSettings(mixture="koala-all-positive"))
    assert [(row["id"], row["filter"], row["reason"]) for row in found] == [
        ("hh/f#1/rejected", "mixture", "the worse side of a comparison"),
        ("hh/f#1/chosen", None, None),
    ]
    few = [example(dialogue("a"), f"oig/f#{n}") for n in range(40)]
    drawn = rows(few, tokenizer, DataSettings(repeats={"oig": 0.5}))
    assert len(drawn) == 40
    assert {row["reason"] for row in drawn} == {None, "not drawn (data.repeats)"}


def test_the_marker_of_the_worse_side_opens_its_answer(tokenizer):
    (row,) = rows([example(dialogue("bad", marker="negative"), "hh/f#1/rejected")], tokenizer)
    assert tokenizer.decode(row["ids"]).endswith("An Unhelpful Answer:bad")


def test_the_group_is_the_source_and_the_marker_of_what_is_learnt(tokenizer):
    sides = [example(dialogue("a"), "hh/f#1/chosen"), example(dialogue("b", marker="negative"), "hh/f#1/rejected")]
    others = [example(dialogue("c", marker="none"), "sharegpt/f#1"), example(dialogue("d"), "oig/f#2")]
    assert [row["group"] for row in rows([*sides, *others], tokenizer)] == [
        "hh/positive",
        "hh/negative",
        "sharegpt/none",
        "oig/positive",
    ]
    left_out = rows(sides, tokenizer, DataSettings(mixture="koala-all-positive"))
    assert {row["id"]: row["group"] for row in left_out} == {"hh/f#1/chosen": "hh/positive", "hh/f#1/rejected": None}


def test_the_group_of_a_comparison_is_that_of_the_side_though_its_first_answers_are_shared():
    shared = (Turn("user", "Q"), Turn("assistant", "A"), Turn("user", "Q2"))
    assert group_of("hh", (*shared, Turn("assistant", "B", "negative", learn=True))) == "hh/negative"
    assert group_of("hh", shared) == "hh/none"


def test_every_piece_of_a_split_dialogue_has_its_group(tokenizer):
    answers = [f"Answer {number} " + "x" * 60 for number in range(9)]
    pieces = rows([example(dialogue(*answers, marker="none"), "sharegpt/f#1")], tokenizer, context=400)
    assert len(pieces) > 1
    assert {row["group"] for row in pieces} == {"sharegpt/none"}
