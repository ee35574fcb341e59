"""Evaluation in training: right by source and marker, the same for any number of workers, and without a trace."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from heldout_dialogues import GROUPS, packed
from transformers import AutoModelForCausalLM

from koala_ray.models.resolve import resolve
from koala_ray.recipe import LoraSettings, TrainSettings
from koala_ray.records import Turn
from koala_ray.tokens.shards import read_all, read_groups
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.train.batch import micro_batch
from koala_ray.train.engine import build_optimizer, deepspeed_config
from koala_ray.train.evaluate import (
    Evaluation,
    choose_rows,
    evaluate,
    heldout_rows,
    likeliest,
    opening_questions,
    sample_answers,
    undisturbed,
    unisolated,
)
from koala_ray.train.model import load_model

STEPS = 2
ROWS = 3
NEW_TOKENS = 4
CASES: dict[str, dict[str, Any]] = {
    "zero0": {"train": {"zero_stage": 0}},
    "zero1, adapters": {"train": {"zero_stage": 1}, "lora": {"rank": 4, "dropout": 0.1}},
    "zero2, activation checkpointing": {"train": {"zero_stage": 2, "activation_checkpointing": True}},
    "zero3": {"train": {"zero_stage": 3}},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load("tiny")


@pytest.fixture(scope="module")
def shards(tokenizer, tmp_path_factory) -> str:
    return packed(tmp_path_factory.mktemp("heldout"), tokenizer)


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
