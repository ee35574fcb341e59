"""Drawing: greedy, filters and penalties as transformers has them, probabilities as they should be, seeds that hold."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from koala_ray.generate.batching.sampler import Drawn, describe, draw, inverse, penalize
from koala_ray.generate.sampling import Sampling, own_seed

VOCABULARY = 50
ROWS = st.lists(st.floats(-8, 8, width=32), min_size=VOCABULARY, max_size=VOCABULARY).map(torch.tensor)


def answer(prompt: tuple[int, ...] = (1, 2), **settings) -> Drawn:
    return Drawn(Sampling(max_tokens=10, **settings), prompt)


def possible(logits: torch.Tensor, top_k: int, top_p: float) -> set[int]:
    """The ids that can be drawn, found by going through the whole of [0, 1)."""
    points = torch.linspace(0, 1, 5001)[:-1].tolist()
    return set(inverse(logits.expand(len(points), -1), points, top_k, top_p).tolist())


def test_a_temperature_of_0_takes_the_likeliest():
    logits = torch.randn(3, VOCABULARY)
    assert draw(logits, [answer() for _ in range(3)]).tolist() == logits.argmax(-1).tolist()


@given(ROWS, st.integers(1, VOCABULARY))
@settings(deadline=None, max_examples=30)
def test_top_k_draws_what_transformers_would(logits, top_k):
    kept = TopKLogitsWarper(top_k)(torch.zeros(1, 1), logits[None].clone())[0]
    assert possible(logits, top_k, 1.0) <= set(torch.isfinite(kept).nonzero().flatten().tolist())


@given(ROWS, st.sampled_from([0.1, 0.5, 0.9, 0.99]))
@settings(deadline=None, max_examples=30)
def test_top_p_draws_what_transformers_would(logits, top_p):
    kept = TopPLogitsWarper(top_p)(torch.zeros(1, 1), logits[None].double())[0]
    allowed = set(torch.isfinite(kept).nonzero().flatten().tolist())
    ties = {place for place in range(VOCABULARY) if any(logits[place] == logits[other] for other in allowed)}
    assert possible(logits, 0, top_p) <= allowed | ties


@given(ROWS, st.sets(st.integers(0, VOCABULARY - 1), min_size=1), st.sampled_from([0.5, 1.3, 2.0]))
@settings(deadline=None, max_examples=30)
def test_the_penalty_is_transformers(logits, seen, penalty):
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([sorted(seen)]), logits[None].clone())[0]
    penalize(logits, seen, penalty)
    torch.testing.assert_close(logits, expected)


def test_tokens_come_as_often_as_they_are_likely():
    logits = torch.tensor([[0.0, 1.0, 2.0, float("-inf")]])
    probabilities = logits[0].softmax(-1).tolist()
    draws = 4000
    found = Counter(draw(logits, [answer(temperature=1.0, seed=seed)]).item() for seed in range(draws))
    for id_, probability in enumerate(probabilities):
        assert found[id_] / draws == pytest.approx(probability, abs=0.03)
    assert 3 not in found


def test_an_answer_draws_the_same_whatever_is_beside_it():
    torch.manual_seed(0)
    steps = [torch.randn(VOCABULARY) for _ in range(6)]

    def drawn(beside: int, at: int) -> list[int]:
        mine = answer(temperature=0.8, top_p=0.9, seed=7)
        answers = [answer(temperature=1.0 + place, seed=place) for place in range(beside)]
        answers.insert(at, mine)
        for row in steps:
            logits = torch.randn(beside + 1, VOCABULARY)
            logits[at] = row
            draw(logits, answers)
        return [token.id for token in mine.tokens]

    assert drawn(0, 0) == drawn(5, 3) == drawn(2, 2)


def test_what_was_drawn_is_penalized_next():
    mine = answer(prompt=(), repetition_penalty=100.0)
    logits = torch.tensor([[5.0, 4.0, 3.0]])
    assert [draw(logits, [mine]).item() for _ in range(3)] == [0, 1, 2]
    assert torch.equal(logits, torch.tensor([[5.0, 4.0, 3.0]]))


def test_logprobs_are_the_models_own():
    logits = torch.randn(2, VOCABULARY)
    plain, told = answer(), answer(temperature=2.0, repetition_penalty=1.5, logprobs=3)
    draw(logits, [plain, told])
    assert plain.tokens[0].logprob is None
    token = told.tokens[0]
    expected = logits[1].log_softmax(-1)
    assert token.logprob == pytest.approx(expected[token.id].item())
    assert [id_ for id_, _ in token.alternatives] == expected.topk(3).indices.tolist()
    assert [logprob for _, logprob in token.alternatives] == pytest.approx(expected.topk(3).values.tolist())


def test_no_alternatives_are_none():
    assert describe(torch.randn(2, VOCABULARY), torch.tensor([1, 2]), 0)[0].alternatives == ()


def test_seeds_differ_by_prompt_and_number_and_not_by_when():
    seeds = {own_seed(seed, ids, index) for seed in (0, 1) for ids in ([1, 2], [1, 3]) for index in (0, 1)}
    assert len(seeds) == 8
    assert own_seed(0, (1, 2), 0) == own_seed(0, [1, 2], 0)
