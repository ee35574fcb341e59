"""Which held-out rows an evaluation reads, the groups of their tokens, and the questions that are sampled from them."""

from __future__ import annotations

from itertools import chain

import pyarrow as pa
import pytest
from heldout_dialogues import GROUPS, answer, examples, packed
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.recipe import DataSettings, TokenSettings
from koala_ray.records import Example, Turn
from koala_ray.tokens.scratch import Scratch
from koala_ray.tokens.shards import read_all, read_groups, write_shards
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.tokens.worker import tokenize_examples
from koala_ray.train.evaluate import choose_rows, heldout_groups, heldout_rows, learnt_groups, opening_questions


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load("tiny")


@pytest.fixture(scope="module")
def shards(tokenizer, tmp_path_factory) -> str:
    return packed(tmp_path_factory.mktemp("heldout"), tokenizer)


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), max_size=12), st.integers(0, 14))
def test_rows_show_as_many_groups_as_they_can(groups, limit):
    chosen = choose_rows(groups, limit)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(limit, len(groups))
    everything = set(chain.from_iterable(groups))
    shown = set(chain.from_iterable(groups[row] for row in chosen))
    assert shown == everything or len(shown) >= limit


def test_a_rare_group_is_read_though_it_stands_last():
    groups = [["a", "b"]] * 9 + [["a", "c"]]
    assert choose_rows(groups, 3) == [0, 1, 9]
    assert choose_rows(groups, 1) == [0]
    assert choose_rows(groups, 0) == []


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_read_the_same_rows_and_equally_many(shards, workers):
    shares = [heldout_rows(shards, rank, workers, 7) for rank in range(workers)]
    assert len({len(share) for share in shares}) == 1
    tables = list(chain.from_iterable(shares))
    assert {table.num_rows for table in tables} == {1}
    read = [table["gidx"][0].as_py() for table in tables if table["lengths"][0].as_py()]
    assert sorted(read) == choose_rows(read_groups(shards), 7)
    assert len(tables) - len(read) == -7 % workers


def test_every_learnt_token_has_its_dialogues_group(shards):
    for row, table in zip(read_all(shards), heldout_rows(shards, 0, 1, 99), strict=True):
        group_of_token = [group for group, length in zip(row.groups, row.lengths, strict=True) for _ in range(length)]
        expected = [group for group, learn in zip(group_of_token, row.learn, strict=True) if learn]
        assert [GROUPS[place] for place in learnt_groups(table, GROUPS)] == expected
    with pytest.raises(ValueError, match="none of the groups hh/positive"):
        learnt_groups(table, ["hh/positive"])


def test_rows_of_weight_zero_have_no_learnt_token(shards):
    real, empty = heldout_rows(shards, 1, 2, 7)[0], heldout_rows(shards, 1, 2, 7)[-1]
    assert learnt_groups(empty, GROUPS).tolist() == []
    both = pa.concat_tables([empty, real, empty])
    assert learnt_groups(both, GROUPS).tolist() == learnt_groups(real, GROUPS).tolist()


def test_nothing_held_out(tokenizer, tmp_path):
    dialogues, _ = Scratch(tmp_path, "heldout").dialogues()
    write_shards(str(tmp_path), dialogues, [], 1, seed=0)
    assert heldout_rows(str(tmp_path), 0, 2, 7) == []
    assert heldout_groups(str(tmp_path)) == []
    assert opening_questions(str(tmp_path), tokenizer, 2) == []


def test_groups_of_the_whole_held_out_set(shards):
    assert heldout_groups(shards) == GROUPS


def test_questions_are_openings_of_distinct_sources(shards, tokenizer):
    asked = {example.turns[0].text: example for example in examples()}
    questions = opening_questions(shards, tokenizer, 3)
    assert {asked[question].source for question in questions} == {"alpaca", "hh", "sharegpt"}
    everything = opening_questions(shards, tokenizer, 99)
    assert len(everything) == len(set(everything))
    # Where the first answer isn't learnt, the question can't be told from what follows.
    assert set(everything) == {text for text, example in asked.items() if example.turns[1].learn}
    assert opening_questions(shards, tokenizer, 0) == []


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "smollm2"])
def test_questions_are_read_back_as_they_were(tokenizers, kind, tmp_path):
    texts = ["What  is\n\n2 + 2?\t", " naïve 東京 🐨 ", "USER: a GPT: b</s> An Unhelpful Answer:", "GPT:"]
    dialogues = [
        Example(f"hh/f#{place}", "hh", (Turn("user", text), answer("Yes.", marker)), str(place))
        for place, (text, marker) in enumerate(zip(texts, ["positive", "negative"] * 2, strict=True))
    ]
    scratch = Scratch(tmp_path, "heldout")
    scratch.add(tokenize_examples(dialogues, tokenizers[kind], TokenSettings(), DataSettings()))
    write_shards(str(tmp_path), scratch.dialogues()[0], [[0, 1, 2, 3]], 1, seed=0)
    assert opening_questions(str(tmp_path), tokenizers[kind], 9) == texts
