"""vLLM as an engine, by its CPU build: transformers' tokens, its likelihoods, seeds that hold, and a replica of it."""

from __future__ import annotations

import asyncio
import os

import pytest
import torch
from transformers import AutoModelForCausalLM

from koala_ray.generate.sampling import Sampling
from koala_ray.models.resolve import resolve

pytestmark = pytest.mark.vllm
EOS = 1
MODEL = "tiny"


def prompt(length: int) -> list[int]:
    return torch.randint(3, 250, (length,), generator=torch.Generator().manual_seed(length)).tolist()


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(resolve(MODEL)).eval()


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        yield


def test_the_engine_is_transformers(model):
    from koala_ray.generate.engine import EngineSettings, open_engine

    async def everything() -> None:
        engine = open_engine("vllm", EngineSettings(MODEL, concurrent=4))
        try:
            await checked(engine)
        finally:
            engine.close()

    async def checked(engine) -> None:
        async def tokens(ids: list[int], sampling: Sampling, at_once: bool = False) -> list[int]:
            return [token.id async for token in engine.generate(ids, sampling, EOS, at_once)]

        asked = [prompt(length) for length in (1, 20, 200, 40, 60, 130)]
        found = await asyncio.gather(*(tokens(ids, Sampling(12)) for ids in asked))
        for ids, got in zip(asked, found, strict=True):
            given = torch.tensor([ids])
            mask = torch.ones_like(given)
            expected = model.generate(given, attention_mask=mask, max_new_tokens=12, do_sample=False)
            assert got == expected[0, len(ids) :].tolist()
        drawn = Sampling(12, temperature=1.0, top_p=0.95, seed=7)
        alone = await tokens(asked[1], drawn)
        beside = await asyncio.gather(*(tokens(ids, drawn) for ids in asked))
        assert beside[1] == alone
        assert await tokens(asked[1], drawn, at_once=True) == alone
        scored = await engine.score(asked[2], 2)
        with torch.no_grad():
            logits = model(torch.tensor([asked[2]])).logits[0].log_softmax(-1)
        expected = [logits[place, id_].item() for place, id_ in enumerate(asked[2][1:])]
        assert scored[0].logprob is None
        assert [token.logprob for token in scored[1:]] == pytest.approx(expected, abs=1e-4)
        assert scored[1].alternatives[0][0] == logits[0].argmax().item()
        given_up = engine.generate(asked[0], Sampling(900), EOS)
        await anext(given_up)
        await given_up.aclose()
        assert len(await tokens(asked[0], Sampling(3))) <= 3

    asyncio.run(everything())


def test_a_replica_answers_with_it(tmp_path):
    os.environ["KOALA_RAY_CPUS"] = "2"
    from koala_ray.generate.batch import generate, read_answers
    from koala_ray.prompts import load_prompts
    from koala_ray.recipe import GenerateSettings

    prompts = load_prompts("sample", 6)
    settings = {"max_tokens": 8, "concurrent": 4}
    (ours,) = generate([MODEL], [prompts], GenerateSettings(**settings), str(tmp_path / "a"))
    (theirs,) = generate([MODEL], [prompts], GenerateSettings(engine="vllm", **settings), str(tmp_path / "b"))
    assert theirs.figures["answered"] == 6
    ids = [answer.answer_ids for answer in read_answers(theirs.step.folder)]
    assert ids == [answer.answer_ids for answer in read_answers(ours.step.folder)]
    assert {answer.engine for answer in read_answers(theirs.step.folder)} == {"vllm 0.32.0"}
