"""The engine in this process: the tokens of transformers' own loop, whatever is beside them; cancelled; scored."""

from __future__ import annotations

import asyncio
import itertools

import pytest
import torch
from transformers import AutoModelForCausalLM

from koala_ray.generate.batching.engine import BatchingEngine
from koala_ray.generate.engine import EngineFailed, EngineSettings
from koala_ray.generate.sampling import Sampling
from koala_ray.models.resolve import resolve

EOS = -1
"""None: answers are as long as they may be."""


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(resolve("tiny")).eval()


@pytest.fixture(scope="module")
def engine():
    opened = BatchingEngine(EngineSettings("tiny", concurrent=4))
    yield opened
    opened.close()


def prompt(length: int) -> list[int]:
    return torch.randint(0, 250, (length,), generator=torch.Generator().manual_seed(length)).tolist()


async def tokens(engine: BatchingEngine, ids: list[int], sampling: Sampling, at_once: bool = False) -> list[int]:
    return [token.id async for token in engine.generate(ids, sampling, EOS, at_once)]


def greedy(model, ids: list[int], count: int) -> list[int]:
    given = torch.tensor([ids])
    mask = torch.ones_like(given)  # else ids that happen to be the padding's are passed over
    found = model.generate(given, attention_mask=mask, max_new_tokens=count, eos_token_id=EOS, do_sample=False)
    return found[0, len(ids) :].tolist()


LENGTHS = (1, 2, 30, 127, 128, 129, 300, 511, 512, 513, 700)
"""Around the cache's pages and the tokens of one pass; more answers than places."""


@pytest.mark.parametrize("at_once", [False, True])
def test_all_together_are_what_each_is_alone(engine, model, at_once):
    asked = [(prompt(length), 5 + place) for place, length in enumerate(LENGTHS)]

    async def together() -> list[list[int]]:
        return await asyncio.gather(*(tokens(engine, ids, Sampling(count), at_once) for ids, count in asked))

    found = asyncio.run(together())
    assert found == [greedy(model, ids, count) for ids, count in asked]


def test_a_drawn_answer_is_the_same_beside_others(engine):
    mine = (prompt(40), Sampling(20, temperature=1.0, top_p=0.95, seed=11))
    others = [(prompt(length), Sampling(30, temperature=2.0, seed=length)) for length in (10, 200, 60)]

    async def beside(count: int) -> list[int]:
        return (await asyncio.gather(*(tokens(engine, *one) for one in (mine, *others[:count]))))[0]

    found = [asyncio.run(beside(count)) for count in range(4)]
    assert all(one == found[0] for one in found)
    assert len(set(found[0])) > 5


def test_more_than_the_cache_holds_is_answered_all_the_same(model):
    """Four answers of 1,000 tokens where the cache has pages for a part of them: some are begun anew."""
    engine = BatchingEngine(EngineSettings("tiny", concurrent=2))
    try:
        asked = [prompt(500 + place) for place in range(5)]

        async def together() -> list[list[int]]:
            return await asyncio.gather(*(tokens(engine, ids, Sampling(400)) for ids in asked))

        found = asyncio.run(together())
        assert found == [greedy(model, ids, 400) for ids in asked]
    finally:
        engine.close()


def test_an_answer_that_nobody_wants_gives_its_place_to_the_next(engine):
    async def some() -> int:
        for _ in range(12):  # three times as many as there are places
            answer = engine.generate(prompt(20), Sampling(900), EOS)
            assert [token async for token, _ in _zipped(answer, 2)]
            await answer.aclose()
        return len(await tokens(engine, prompt(20), Sampling(3)))

    assert asyncio.run(some()) == 3
    assert not engine._manager.output_router.result_handlers


def test_a_whole_answer_that_nobody_wants_gives_its_place_to_the_next(engine):
    async def some() -> int:
        for _ in range(12):
            asked = asyncio.ensure_future(tokens(engine, prompt(20), Sampling(900), at_once=True))
            await tokens(engine, prompt(20), Sampling(2))  # the other one has begun
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            assert asked.cancelled()
        return len(await tokens(engine, prompt(20), Sampling(3)))

    assert asyncio.run(some()) == 3
    assert not engine._manager.output_router.result_handlers


async def _zipped(answer, count):
    places = itertools.count()
    async for token in answer:
        yield token, (place := next(places))
        if place + 1 == count:
            return


@pytest.mark.parametrize("length", [2, 40, 600])
def test_scores_are_transformers(engine, model, length):
    ids = prompt(length)
    found = asyncio.run(engine.score(ids, 1))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert [token.id for token in found] == ids
    assert found[0].logprob is None
    expected = [logits[place, id_].item() for place, id_ in enumerate(ids[1:])]
    assert [token.logprob for token in found[1:]] == pytest.approx(expected, abs=1e-4)
    assert [token.alternatives[0][0] for token in found[1:]] == logits[:-1].argmax(-1).tolist()


def test_an_engine_that_stopped_says_so():
    engine = BatchingEngine(EngineSettings("tiny", concurrent=2))

    async def broken_off() -> None:
        answer = asyncio.create_task(tokens(engine, prompt(20), Sampling(900)))
        while not engine._manager.output_router.result_handlers:
            await asyncio.sleep(0)
        await asyncio.to_thread(engine.close)
        await answer

    with pytest.raises(EngineFailed):
        asyncio.run(broken_off())
    with pytest.raises(EngineFailed, match="stopped"):
        engine.check()
