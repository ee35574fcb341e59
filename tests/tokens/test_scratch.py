"""Tokenized dialogues in scratch files: the same dialogues whatever pieces they arrive in."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.tokens.scratch import Scratch
from koala_ray.tokens.step import group_tokens
from koala_ray.tokens.worker import SCHEMA

GROUPS = ["sharegpt/none", "hh/positive", "hh/negative"]


def table(lengths: list[int]) -> pa.Table:
    """Dialogues of some lengths, of which the last tokens are learnt, as the workers give them."""
    rows = [
        {
            "id": f"s/f#{number}",
            "group": GROUPS[length % 3],
            "copies": 1 + number % 2,
            "learnt": length // 2,
            "ids": [100 * number + place for place in range(length)],
            "learn": [place >= length - length // 2 for place in range(length)],
        }
        for number, length in enumerate(lengths)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(2, 9), max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_dialogues_come_back_whatever_pieces_they_arrive_in(lengths, cuts):
    whole = table(lengths)
    borders = sorted({0, len(lengths), *(cut for cut in cuts if cut < len(lengths))})
    with tempfile.TemporaryDirectory() as folder:
        scratch = Scratch(Path(folder), "train")
        scratch.add(whole.slice(0, 0))
        for start, end in pairwise(borders):
            scratch.add(whole.slice(start, end - start))
        dialogues, copies = scratch.dialogues()
        assert dialogues.lengths.tolist() == lengths
        assert dialogues.ids.tolist() == [token for ids in whole["ids"].to_pylist() for token in ids]
        assert dialogues.learn.tolist() == [learn for row in whole["learn"].to_pylist() for learn in row]
        assert dialogues.learnt.tolist() == [length // 2 for length in lengths]
        assert dialogues.names.to_pylist() == whole["id"].to_pylist()
        assert dialogues.groups.to_pylist() == whole["group"].to_pylist()
        # One entry for each group, in the order of their appearance, however they arrived.
        assert dialogues.groups.dictionary.to_pylist() == list(dict.fromkeys(whole["group"].to_pylist()))
        assert copies.tolist() == whole["copies"].to_pylist()
        assert scratch.tokens == sum(lengths)


def test_tokens_of_each_group(tmp_path):
    scratch = Scratch(tmp_path, "heldout")
    scratch.add(table([5, 4, 8, 3]))
    counts = group_tokens(scratch.dialogues()[0])
    assert list(counts.items()) == [
        ("hh/negative", {"dialogues": 2, "tokens": 13, "learnt_tokens": 6}),
        ("hh/positive", {"dialogues": 1, "tokens": 4, "learnt_tokens": 2}),
        ("sharegpt/none", {"dialogues": 1, "tokens": 3, "learnt_tokens": 1}),
    ]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert group_tokens(Scratch(empty, "heldout").dialogues()[0]) == {}
