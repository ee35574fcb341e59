"""Invariants 4 and 5 on prepared rows: what is learnt, and that generation asks with training's ids."""

from __future__ import annotations

import pytest

from koala_ray import storage
from koala_ray.records import Example
from koala_ray.tables import part_files, read_table
from koala_ray.tokens.shards import read_all, read_plan
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def dialogues(tiny_tokens, tokenizers):
    """Every packed dialogue with its example: (example, ids, mask)."""
    out = tiny_tokens.folder.rsplit("/", 1)[0]
    [curated] = storage.list_files(out, ["curate-*/manifest.json"])
    folder = curated.uri.rsplit("/", 1)[0]
    examples = {}
    for uri in part_files(folder, "examples"):
        examples |= {row["id"]: Example.from_row(row) for row in read_table(uri).to_pylist()}
    found = []
    for row in read_all(storage.join(tiny_tokens.folder, "train")):
        start = 0
        for length, name in zip(row.lengths, row.examples, strict=True):
            span = slice(start, start + length)
            found.append((examples[name], row.input_ids[span], row.learn[span]))
            start += length
    return found


def test_every_row_learns_and_the_plan_knows_how_much(tiny_tokens):
    shards = storage.join(tiny_tokens.folder, "train")
    rows, plan = list(read_all(shards)), read_plan(shards)
    for row in rows:
        assert row.learnt == sum(row.learn) == plan.learnt[row.gidx] > 0
        assert len(row.input_ids) == len(row.learn) == sum(row.lengths) == plan.tokens[row.gidx] <= 512


def test_only_answers_are_learnt_and_each_end_once(dialogues, tokenizers):
    tokenizer = tokenizers["bytes"]
    whole = 0
    for example, ids, learn in dialogues:
        learnt = [token for token, learns in zip(ids, learn, strict=True) if learns]
        answers: list[int] = []
        for turn in example.turns:
            if turn.role == "assistant":
                answers += [*tokenizer.encode([turn.text])[0], tokenizer.eos_id]
        assert learnt == answers[: len(learnt)], example.id
        assert learnt
        whole += learnt == answers
    assert whole > len(dialogues) / 2  # most are not cut


def test_generation_asks_with_the_ids_of_training(dialogues):
    tokenizer = Tokenizer.load("tiny")
    for example, ids, learn in dialogues:
        asked = prompt_ids(example.turns[:1], tokenizer)
        assert ids[: len(asked)] == asked, example.id
        assert learn.index(True) == len(asked)


def test_both_epochs_hold_every_dialogue_once(tiny_tokens):
    rows = list(read_all(storage.join(tiny_tokens.folder, "train")))
    by_epoch = [[name for row in rows if row.epoch == epoch for name in row.examples] for epoch in (0, 1)]
    assert (
        len(by_epoch[0])
        == len(set(by_epoch[0]))
        == tiny_tokens.manifest.counts["rows_kept"] - len(heldout(tiny_tokens))
    )
    assert sorted(by_epoch[0]) == sorted(by_epoch[1])
    assert by_epoch[0] != by_epoch[1]
    assert not set(by_epoch[0]) & heldout(tiny_tokens)


def heldout(tokens) -> set[str]:
    return {name for row in read_all(storage.join(tokens.folder, "heldout")) for name in row.examples}
