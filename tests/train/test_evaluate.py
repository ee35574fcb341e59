"""Evaluation in training: right by source and marker, the same for any number of workers, and without a trace."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from koala_ray.models.resolve import resolve
from koala_ray.recipe import DataSettings, LoraSettings, TokenSettings, TrainSettings
from koala_ray.records import Example, Turn
from koala_ray.tokens.pack import pack
from koala_ray.tokens.scratch import Scratch
from koala_ray.tokens.shards import read_all, read_groups, write_shards
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.tokens.worker import tokenize_examples
from koala_ray.train.batch import micro_batch
from koala_ray.train.engine import build_optimizer, deepspeed_config
from koala_ray.train.evaluate import (
    Evaluation,
    choose_rows,
    evaluate,
    heldout_groups,
    heldout_rows,
    learnt_groups,
    likeliest,
    opening_questions,
    sample_answers,
    undisturbed,
    unisolated,
)
from koala_ray.train.model import load_model

CONTEXT = 256
STEPS = 2
ROWS = 3
NEW_TOKENS = 4
GROUPS = ["alpaca/none", "hh/negative", "hh/positive", "sharegpt/none"]
CASES: dict[str, dict[str, Any]] = {
    "zero0": {"train": {"zero_stage": 0}},
    "zero1, adapters": {"train": {"zero_stage": 1}, "lora": {"rank": 4, "dropout": 0.1}},
    "zero2, activation checkpointing": {"train": {"zero_stage": 2, "activation_checkpointing": True}},
    "zero3": {"train": {"zero_stage": 3}},
}


def examples() -> list[Example]:
    """Dialogues of three sources: single questions, comparisons, and some with a first answer that isn't learnt."""
    found = []
    for number in range(12):
        asked = Turn("user", f"Alpaca question {number}?")
        found.append(Example(f"alpaca/f#{number}", "alpaca", (asked, answer("A" * number)), str(number)))
    for number in range(6):
        opening = (Turn("user", f"Is {number} more?"), Turn("assistant", "Than what?"), Turn("user", "Than 3."))
        for side in ("positive", "negative"):
            turns = (*(opening if number % 2 else opening[:1]), answer(f"{side} {number}", side))
            found.append(Example(f"hh/f#{number}/{side}", "hh", turns, f"hh{number}"))
    for number in range(8):
        turns = tuple(chain.from_iterable((Turn("user", f"S {number} {n}?"), answer("Yes, " * n)) for n in range(3)))
        found.append(Example(f"sharegpt/f#{number}", "sharegpt", turns, f"s{number}"))
    return found


def answer(text: str, marker: Any = "none") -> Turn:
    return Turn("assistant", text, marker, learn=True)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load("tiny")


@pytest.fixture(scope="module")
def shards(tokenizer, tmp_path_factory) -> str:
    """The examples as packed rows, by the token step's own parts."""
    folder = tmp_path_factory.mktemp("evaluate")
    scratch = Scratch(folder, "heldout")
    scratch.add(tokenize_examples(examples(), tokenizer, TokenSettings(context=CONTEXT), DataSettings()))
    dialogues, _ = scratch.dialogues()
    rows = write_shards(str(folder / "shards"), dialogues, pack(dialogues.lengths.tolist(), CONTEXT), 1, seed=0)
    assert rows > 8
    return str(folder / "shards")


@pytest.fixture(scope="module")
def plain():
    """The tiny model as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(resolve("tiny"), attn_implementation="sdpa").eval()


@contextmanager
def running(case: str) -> Iterator[Any]:
    """The engine of a case, sharded however small the model is."""
    import deepspeed

    train = TrainSettings(batch_rows=2, lr=1e-3, dropout=0.1, **CASES[case]["train"])
    config = deepspeed_config(train)
    config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    seed(0)
    model = load_model("tiny", train, LoraSettings(**CASES[case].get("lora", {})), config)
    engine, *_ = deepspeed.initialize(model=model, optimizer=build_optimizer(model, train), config=config)
    engine.train()
    try:
        yield engine
    finally:
        engine.destroy()


def trained(case: str, tables: list[pa.Table], look: Callable[[Any], None]) -> dict[str, Any]:
    """A few steps on the tables, with a look at the engine before each."""
    import deepspeed

    losses = []
    with running(case) as engine:
        for _ in range(STEPS):
            look(engine)
            for rows in tables[:2]:
                loss = engine(micro_batch(rows))
                engine.backward(loss / 100)
                engine.step()
                losses.append(loss.item())
        with deepspeed.zero.GatheredParameters(list(engine.module.parameters()), enabled=case == "zero3"):
            weights = {name: value.detach().clone() for name, value in engine.module.named_parameters()}
    return {"losses": losses, "weights": weights, "random": draw()}


@dataclass
class Look:
    """An evaluation and answers between two steps, and the engine's state before and after them."""

    evaluation: Evaluation
    answers: list[dict[str, str]]
    before: dict[str, Any]
    after: dict[str, Any]


def seed(number: int) -> None:
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(number)


def draw() -> tuple[float, float, float]:
    """A number of each random generator."""
    return random.random(), np.random.random(), torch.rand(1).item()


def state(engine: Any) -> dict[str, Any]:
    """What DeepSpeed counts, and what the module is set to."""
    causal = engine.module.causal
    return {
        **{name: getattr(engine, name) for name in ("micro_steps", "global_steps", "global_samples", "skipped_steps")},
        "modes": {module.training for module in engine.module.modules()},
        "attention": causal.config._attn_implementation,
        "cached": causal.config.use_cache,
        "gradients": torch.is_grad_enabled(),
    }


@pytest.fixture(scope="module")
def questions(shards, tokenizer) -> list[str]:
    return opening_questions(shards, tokenizer, 3)


@pytest.fixture(scope="module", params=CASES)
def runs(request, one_worker, shards, tokenizer, questions) -> tuple[dict[str, Any], dict[str, Any], list[Look]]:
    """A case trained without and with evaluations, and these."""
    tables = heldout_rows(shards, 0, 1, ROWS)
    looks = []

    def look(engine: Any) -> None:
        before = state(engine)
        evaluation = evaluate(engine, tables, GROUPS)
        answers = sample_answers(engine, tokenizer, questions, NEW_TOKENS)
        looks.append(Look(evaluation, answers, before, state(engine)))

    return trained(request.param, tables, lambda engine: None), trained(request.param, tables, look), looks


def test_training_goes_on_as_if_there_had_been_no_evaluation(runs):
    without, with_them, looks = runs
    assert without["losses"][0] != without["losses"][2]  # the same row, a step later
    assert with_them["losses"] == without["losses"]
    assert with_them["random"] == without["random"]
    assert with_them["weights"].keys() == without["weights"].keys()
    for name, weight in without["weights"].items():
        assert torch.equal(with_them["weights"][name], weight), name
    for look in looks:
        assert look.before == look.after
        assert (look.before["modes"], look.before["attention"]) == ({True}, "koala_isolated")
    assert looks[0].evaluation.loss != looks[1].evaluation.loss


@pytest.fixture(scope="module")
def alone(plain, shards) -> dict[str, tuple[float, int]]:
    """Each group's summed loss and learnt tokens, every dialogue alone through the plain model."""
    sums = dict.fromkeys(GROUPS, (0.0, 0))
    chosen = choose_rows(read_groups(shards), ROWS)
    for row in (row for row in read_all(shards) if row.gidx in chosen):
        end = 0
        for length, group in zip(row.lengths, row.groups, strict=True):
            start, end = end, end + length
            ids, learn = torch.tensor(row.input_ids[start:end]), torch.tensor(row.learn[start:end])
            with torch.no_grad():
                logits = plain(input_ids=ids[None], use_cache=False).logits[0]
            each = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")[learn[1:]]
            total, learnt = sums[group]
            sums[group] = total + each.double().sum().item(), learnt + len(each)
    return sums


def test_the_loss_is_that_of_each_dialogue_alone_for_every_group(runs, alone):
    """Before the first step, so that the plain model has the same weights."""
    evaluation = runs[-1][0].evaluation
    assert list(evaluation.groups) == GROUPS
    for group, (loss, learnt) in alone.items():
        assert evaluation.groups[group].learnt == learnt
        assert evaluation.groups[group].loss == pytest.approx(loss / learnt, rel=1e-5)
    loss, learnt = map(sum, zip(*alone.values(), strict=True))
    assert evaluation.loss == pytest.approx(loss / learnt, rel=1e-5)


@pytest.fixture(scope="module")
def greedy(plain, tokenizer, questions) -> list[dict[str, str]]:
    """The plain model's answers by transformers' own generation."""
    samples = []
    for question in questions:
        ids = torch.tensor([prompt_ids([Turn("user", question)], tokenizer)])
        generated = plain.generate(
            ids, do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=tokenizer.eos_id, pad_token_id=0
        )
        answered = tokenizer.decode(generated[0, ids.shape[1] :].tolist()).strip()
        samples.append({"prompt": question, "answer": answered})
    return samples


def test_answers_are_those_of_greedy_generation(runs, greedy):
    """Before the first step, as above."""
    assert runs[-1][0].answers == greedy
    assert [sample["prompt"] for sample in runs[-1][1].answers] == [sample["prompt"] for sample in greedy]


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_find_the_same_loss(one_worker, shards, workers):
    with running("zero0") as engine:
        whole = evaluate(engine, heldout_rows(shards, 0, 1, 7), GROUPS)
        shares = [evaluate(engine, heldout_rows(shards, rank, workers, 7), GROUPS) for rank in range(workers)]
    for group, found in whole.groups.items():
        parts = [share.groups[group] for share in shares if group in share.groups]
        assert sum(part.learnt for part in parts) == found.learnt
        assert sum(part.loss * part.learnt for part in parts) / found.learnt == pytest.approx(found.loss, rel=1e-12)


def test_without_rows_there_is_no_loss(one_worker):
    with running("zero0") as engine:
        evaluation = evaluate(engine, [], GROUPS)
        assert sample_answers(engine, Tokenizer.load("tiny"), [], NEW_TOKENS) == []
    assert math.isnan(evaluation.loss)
    assert evaluation.groups == {}


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


@pytest.mark.parametrize("to_the_end", [False, True])
def test_an_answer_ends_before_the_end_of_sequence(plain, tokenizer, to_the_end):
    prompt = torch.tensor([prompt_ids([Turn("user", "Hello!")], tokenizer)])
    passes: list[int] = []
    counting = plain.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        find = partial(likeliest, plain, prompt, max_tokens=8, to_the_end=to_the_end)
        free = find(eos_id=-1)
        third = next(place for place, token in enumerate(free) if free.index(token) == place and place)
        passes.clear()
        assert find(eos_id=free[third]) == free[:third]
    assert len(passes) == (8 if to_the_end else third + 1)
    counting.remove()


def test_attention_is_isolated_again_whatever_happens(plain):
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny"), attn_implementation="koala_isolated")

    def fail():
        with unisolated(model):
            assert model.config._attn_implementation == "sdpa"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert model.config._attn_implementation == "koala_isolated"


@pytest.mark.parametrize("training", [False, True])
def test_modes_and_random_numbers_are_as_before_whatever_happens(training):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout()).train(training)

    def fail():
        with undisturbed(module):
            assert not module[1].training
            assert not torch.is_grad_enabled()
            draw()
            raise KeyError

    seed(1)
    expected = draw()
    seed(1)
    with pytest.raises(KeyError):
        fail()
    assert draw() == expected
    assert module[1].training == training
    assert torch.is_grad_enabled()
