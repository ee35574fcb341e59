"""Invariant 6: no training row comes within BLEU 20 % of a prompt; both sides of a pair are in one split."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
import sacrebleu

from koala_ray import storage
from koala_ray.curate.ledger import EXAMPLES
from koala_ray.prepare import prepare
from koala_ray.prompts import load_prompts
from koala_ray.recipe_file import load_recipe
from koala_ray.records import Example
from koala_ray.samples import write_samples
from koala_ray.tables import part_files, read_table
from koala_ray.tokens.shards import read_all

pytestmark = pytest.mark.ray
LIMIT = 20.0


def nearly(prompt: str) -> list[str]:
    """The prompt itself, and what is left of it without some of its words."""
    words = prompt.split()
    return [prompt, " ".join(words[:-1]), " ".join(words[2:]), " ".join(words[::2]), f"Please, {prompt} Thanks!"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The sample corpus, and rows that ask what a prompt set asks, word for word or nearly."""
    folder = tmp_path_factory.mktemp("contaminated")
    write_samples(folder)
    asked = [text for prompt in load_prompts("sample").prompts for text in nearly(prompt.text)]
    rows = [{"instruction": text, "input": "", "output": f"Answer {n}."} for n, text in enumerate(asked)]
    (folder / "sources" / "alpaca_near.json").write_text(json.dumps(rows))
    return folder


def learnt_examples(tokens: str, curated: str) -> dict[str, list[Example]]:
    """The examples whose tokens are in the packed rows, by split."""
    rows = [row for part in part_files(curated, EXAMPLES) for row in read_table(part).to_pylist()]
    examples = {row["id"]: Example.from_row(row) for row in rows}
    packed = {split: list(read_all(storage.join(tokens, split))) for split in ("train", "heldout")}
    return {
        split: [examples[name] for name in sorted({name.split("~")[0] for row in found for name in row.examples})]
        for split, found in packed.items()
    }


def asked_of(example: Example) -> list[str]:
    return [turn.text for turn in example.turns if turn.role == "user"]


@pytest.fixture(scope="module")
def prepared(ray_session, data, tmp_path_factory):
    prompts = str(data / "prompts" / "sample.jsonl")
    sets = [f"curate.against=[{prompts}]", "tokens.context=192", "data.heldout=0.3"]
    return prepare(load_recipe("tiny", sets, str(data)), str(tmp_path_factory.mktemp("decontaminated")))[1]


def test_no_row_is_within_the_limit_of_a_prompt(data, prepared):
    prompts = [prompt.text for prompt in load_prompts(str(data / "prompts" / "sample.jsonl")).prompts]
    learnt = learnt_examples(prepared["folder"], prepared["curated"])
    turns = {text for split in learnt.values() for example in split for text in asked_of(example)}
    assert len(turns) > 300
    worst = max((sacrebleu.sentence_bleu(prompt, [turn]).score, prompt, turn) for prompt in prompts for turn in turns)
    assert worst[0] <= LIMIT, worst
    rejected = prepared["sources"]["alpaca"]["rejected"]
    assert rejected["too close to an evaluation prompt"] >= 3 * len(prompts)


def test_dropping_prompts_instead_leaves_those_that_no_row_comes_close_to(ray_session, data, tmp_path):
    prompts = str(data / "prompts" / "sample.jsonl")
    (data / "prompts" / "two.jsonl").write_text(
        json.dumps({"id": "far", "prompt": "Quantify ocean salinity gradients near hydrothermal vents?"})
        + "\n"
        + Path(prompts).read_text().splitlines()[0]
    )
    sets = [
        f"curate.against=[{data / 'prompts' / 'two.jsonl'}]",
        "curate.decontaminate=prompts",
        "data.sources.alpaca=['**/alpaca*']",
    ]
    _, figures = prepare(load_recipe("tiny", sets, str(data)), str(tmp_path))
    assert "too close to an evaluation prompt" not in figures["sources"]["alpaca"]["rejected"]
    left = load_prompts(storage.join(figures["curated"], "prompts", "two.jsonl"))
    assert [prompt.id for prompt in left.prompts] == ["far"]


def test_the_sides_of_a_pair_and_the_answers_to_a_question_are_in_one_split(prepared):
    learnt = learnt_examples(prepared["folder"], prepared["curated"])
    splits, sides = defaultdict(set), defaultdict(set)
    for split, examples in learnt.items():
        for example in examples:
            splits[example.pair].add(split)
            sides[example.pair].add(example.id)
            splits[" ".join(asked_of(example)[0].split()) if example.source != "webgpt" else example.pair].add(split)
    assert {frozenset(found) for found in splits.values()} == {frozenset({"train"}), frozenset({"heldout"})}
    pairs = [
        pair for pair, found in sides.items() if pair.startswith(("hh/", "webgpt/", "summarize/")) and len(found) == 2
    ]
    assert len(pairs) > 30
