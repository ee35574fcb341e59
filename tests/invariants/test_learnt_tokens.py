"""Invariants 4 and 5 on prepared rows: what is learnt, and that generation asks with training's ids."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from koala_ray import storage
from koala_ray.curate.ledger import EXAMPLES
from koala_ray.mixture import condition
from koala_ray.recipe import DataSettings
from koala_ray.records import Turn
from koala_ray.tables import part_files, read_examples, read_table
from koala_ray.tokens.shards import read_all, read_plan
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Piece:
    """A packed dialogue, or one piece of a split one."""

    ids: list[int]
    learn: list[bool]

    def learnt(self) -> list[tuple[int, list[int]]]:
        """The runs of learnt ids, each with its place: one for each answer, since a question stands between two."""
        runs: list[tuple[int, list[int]]] = []
        for place, (token, learns) in enumerate(zip(self.ids, self.learn, strict=True)):
            if learns and place and self.learn[place - 1]:
                runs[-1][1].append(token)
            elif learns:
                runs.append((place, [token]))
        return runs


@pytest.fixture(scope="module")
def dialogues(tiny_tokens) -> list[tuple[tuple[Turn, ...], list[Piece]]]:
    """Each dialogue of the first epoch as the mixture has it, and its pieces in order."""
    out = tiny_tokens.folder.rsplit("/", 1)[0]
    [curated] = storage.list_files(out, ["curate-*/manifest.json"])
    examples = {}
    for uri in part_files(curated.uri.rsplit("/", 1)[0], EXAMPLES):
        examples |= {example.id: example for example in read_examples(read_table(uri))}
    pieces: dict[str, dict[int, Piece]] = {}
    for row in read_all(storage.join(tiny_tokens.folder, "train")):
        start = 0
        for length, name in zip(row.lengths, row.examples, strict=True):
            span = slice(start, start + length)
            example, _, number = name.partition("~")
            pieces.setdefault(example, {})[int(number or 0)] = Piece(row.input_ids[span], row.learn[span])
            start += length
    data = DataSettings()
    return [
        (condition(examples[name].turns, data), [found[number] for number in sorted(found)])
        for name, found in pieces.items()
    ]


def test_every_row_learns_and_the_plan_knows_how_much(tiny_tokens):
    shards = storage.join(tiny_tokens.folder, "train")
    rows, plan = list(read_all(shards)), read_plan(shards)
    for row in rows:
        assert row.learnt == sum(row.learn) == plan.learnt[row.gidx] > 0
        assert len(row.input_ids) == len(row.learn) == sum(row.lengths) == plan.tokens[row.gidx] <= 512


def test_only_answers_are_learnt_and_each_end_once(dialogues, tokenizers):
    tokenizer = tokenizers["bytes"]
    whole = split = 0
    for turns, pieces in dialogues:
        answers = [[*tokenizer.encode([turn.text])[0], tokenizer.eos_id] for turn in turns if turn.learn]
        learnt = [(piece, place, run) for piece in pieces for place, run in piece.learnt()]
        assert 0 < len(learnt) <= len(answers)
        split += len(pieces) > 1
        for (piece, place, run), answer in zip(learnt, answers, strict=False):
            assert run == answer[: len(run)]
            assert run == answer or place + len(run) == len(piece.ids), "cut only at a piece's end"
        whole += [run for _, _, run in learnt] == answers
    assert whole > 0.9 * len(dialogues)  # most are not cut
    assert split > 10


def test_generation_asks_with_the_ids_of_training(dialogues):
    tokenizer = Tokenizer.load("tiny")
    for turns, pieces in dialogues:
        learnt = [place for place, turn in enumerate(turns) if turn.learn]
        runs = [(piece, place) for piece in pieces for place, _ in piece.learnt()]
        for (piece, place), answer in zip(runs, learnt, strict=False):
            # A later piece of a split dialogue begins with some of the exchanges before.
            begins = range(0, answer, 2) if len(pieces) > 1 else [0]
            asked = [prompt_ids(turns[begin:answer], tokenizer, turns[answer].marker) for begin in begins]
            assert piece.ids[:place] in asked


def test_both_epochs_hold_every_dialogue_once(tiny_tokens):
    rows = list(read_all(storage.join(tiny_tokens.folder, "train")))
    by_epoch = [[name for row in rows if row.epoch == epoch for name in row.examples] for epoch in (0, 1)]
    assert len(by_epoch[0]) == len(set(by_epoch[0]))
    kept = {name.split("~")[0] for name in [*by_epoch[0], *heldout(tiny_tokens)]}
    assert len(kept) == tiny_tokens.manifest.counts["rows_kept"]
    assert sorted(by_epoch[0]) == sorted(by_epoch[1])
    assert by_epoch[0] != by_epoch[1]
    assert not set(by_epoch[0]) & heldout(tiny_tokens)


def heldout(tokens) -> set[str]:
    return {name for row in read_all(storage.join(tokens.folder, "heldout")) for name in row.examples}
