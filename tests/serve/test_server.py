"""The OpenAI-compatible server with real clients: the openai package, lm-eval, curl, and those that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from koala_ray.errors import KoalaError
from koala_ray.models.resolve import resolve
from koala_ray.preempt.fleet import wait_for
from koala_ray.recipe import GenerateSettings
from koala_ray.records import Turn
from koala_ray.serve import run
from koala_ray.serve.run import serve_models, stop_serving
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.ray
KEY = "a-key"
PATIENCE = 60.0
CHAT = [{"role": "user", "content": "Say something."}]


@dataclass
class Server:
    url: str
    client: openai.OpenAI

    def about(self) -> dict:
        """What the first model's replica says of itself."""
        from ray import serve

        return serve.get_deployment_handle("model0", run.APP).about.remote().result()


@pytest.fixture(scope="module")
def server(ray_session) -> Iterator[Server]:
    from ray import serve

    serve.shutdown()  # earlier tests' has no HTTP side
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = GenerateSettings(concurrent=4)
    url = serve_models(["base", "tiny"], settings, "", "tiny", "127.0.0.1", port, [KEY])
    yield Server(url, openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=PATIENCE))
    stop_serving()
    serve.shutdown()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load("tiny")


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(resolve("tiny")).eval()


def greedy(model, tokenizer: Tokenizer, ids: list[int], count: int) -> str:
    found = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False, pad_token_id=tokenizer.eos_id)
    return tokenizer.decode([id_ for id_ in found[0, len(ids) :].tolist() if id_ != tokenizer.eos_id])


def test_the_models_are_listed(server):
    found = list(server.client.models.list())
    assert [one.id for one in found] == ["base", "tiny"]
    assert found[0].model_hash == found[1].model_hash
    assert server.client.models.retrieve("tiny").id == "tiny"


def test_a_completion_is_transformers(server, model, tokenizer):
    (ids,) = tokenizer.encode(["Once upon"])
    opening = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    expected = greedy(model, tokenizer, opening + ids, 8)
    for prompt in ("Once upon", opening + ids):
        found = server.client.completions.create(model="tiny", prompt=prompt, max_tokens=8, temperature=0)
        assert found.choices[0].text == expected
        assert found.usage.prompt_tokens == len(opening + ids)


def test_a_chat_is_in_koalas_template(server, model, tokenizer):
    turns = [Turn("user", "Hi!"), Turn("assistant", "Hello."), Turn("user", "Who are you?")]
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    for marker in ("positive", "negative"):
        found = server.client.chat.completions.create(
            model="tiny", messages=messages, max_tokens=8, temperature=0, extra_body={"marker": marker}
        )
        ids = prompt_ids(turns, tokenizer, marker)
        assert found.choices[0].message.content == greedy(model, tokenizer, ids, 8)
        assert found.usage.prompt_tokens == len(ids)


def test_a_stream_says_the_same_as_the_whole(server):
    asked = {"model": "tiny", "messages": CHAT, "max_tokens": 12, "seed": 3, "temperature": 1.0, "n": 2}
    whole = server.client.chat.completions.create(**asked)
    texts, finishes, usage = Counter(), {}, None
    for chunk in server.client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts.setdefault(choice.index, "")
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    assert [texts[choice.index] for choice in whole.choices] == [one.message.content for one in whole.choices]
    assert finishes == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage
    assert len(set(texts.values())) == 2


def test_a_prompts_logprobs_are_transformers(server, model, tokenizer):
    ids = prompt_ids([Turn("user", "What is the likelihood of this?")], tokenizer)
    found = server.client.completions.create(
        model="tiny", prompt=ids, max_tokens=1, temperature=0, logprobs=2, echo=True
    )
    told = found.choices[0].logprobs
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [logits[place, id_].item() for place, id_ in enumerate(ids[1:])]
    assert told.token_logprobs[0] is None
    assert told.token_logprobs[1 : len(ids)] == pytest.approx(expected, abs=1e-4)
    assert max(told.top_logprobs[1].values()) == pytest.approx(logits[0].max().item(), abs=1e-4)
    assert len(told.token_logprobs) == len(ids) + 1


def test_stop_strings_end_an_answer(server):
    asked = {"model": "tiny", "prompt": "Hello", "max_tokens": 40, "seed": 1, "temperature": 1.0}
    whole = server.client.completions.create(**asked).choices[0].text
    stop = whole[5:7]
    found = server.client.completions.create(**asked, stop=stop).choices[0]
    assert found.text == whole[: whole.index(stop)]
    assert found.finish_reason == "stop"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"model": "gpt-5"}, openai.NotFoundError, "not served here; there are base, tiny"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, openai.BadRequestError, "empty"),
        ({"messages": [{"role": "system", "content": "x"}]}, openai.BadRequestError, "system"),
        ({"messages": [*CHAT, *CHAT]}, openai.BadRequestError, "alternate"),
        ({"messages": [{"role": "user", "content": "x" * 2000}]}, openai.BadRequestError, "don't fit"),
        ({"max_tokens": 100_000}, openai.BadRequestError, "max_tokens of"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"temperature": 1e9}, openai.BadRequestError, "temperature"),
        ({"top_p": 0}, openai.BadRequestError, "top_p"),
        ({"n": 10_000}, openai.BadRequestError, "n: "),
        ({"stop": ""}, openai.BadRequestError, "stop"),
        ({"logprobs": True, "top_logprobs": 99}, openai.BadRequestError, "top_logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "tools"),
        ({"presence_penalty": 1}, openai.BadRequestError, "presence_penalty"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_are_refused_in_openais_terms(server, change, error, says, stream):
    with pytest.raises(error, match=says):
        server.client.chat.completions.create(**{"model": "tiny", "messages": CHAT, "stream": stream, **change})


@pytest.mark.parametrize(
    ("prompt", "says"), [([1, 10**6], "vocabulary"), ([-1], "vocabulary"), ([], "empty|prompts"), ("", "empty")]
)
def test_prompts_that_are_none_are_refused(server, prompt, says):
    with pytest.raises(openai.BadRequestError, match=says):
        server.client.completions.create(model="tiny", prompt=prompt)


def test_an_end_or_a_marker_in_a_prompt_is_text(server, tokenizer):
    text = "Say </s> and GPT: and <|im_end|>."
    found = server.client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": text}], max_tokens=1
    )
    ids = prompt_ids([Turn("user", text)], tokenizer)
    assert tokenizer.eos_id not in ids
    assert found.usage.prompt_tokens == len(ids)


def test_a_key_is_asked_for(server):
    with pytest.raises(openai.AuthenticationError, match="API key"):
        openai.OpenAI(base_url=server.url, api_key="another", max_retries=0).models.list()


def test_nobody_is_served_beyond_this_machine_without_a_key():
    with pytest.raises(KoalaError, match="without a key"):
        serve_models(["tiny"], GenerateSettings(), "", "tiny", "0.0.0.0", 8000, [])


def curl(server, *arguments: str) -> tuple[int, str]:
    command = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {KEY}"]
    ran = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    body, _, status = ran.stdout.rpartition("\n")
    return int(status), body


@pytest.mark.parametrize("body", ["{", "", "[]", "null", '"x"', '{"model": "tiny", "prompt": {"a": 1}}'])
def test_curl_with_a_body_that_is_no_request(server, body):
    headers = ["-H", "Content-Type: application/json"]
    status, said = curl(server, f"{server.url}/completions", *headers, "-d", body)
    assert status == 400
    assert json.loads(said)["error"]["type"] == "invalid_request_error"


def test_curl_streams(server):
    body = json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 3, "stream": True})
    status, said = curl(server, "-N", f"{server.url}/completions", "-H", "Content-Type: application/json", "-d", body)
    events = [line.removeprefix("data: ") for line in said.splitlines() if line]
    assert status == 200
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] in ("length", "stop")


def test_a_path_that_is_not_there(server):
    status, said = curl(server, f"{server.url}/embeddings")
    assert status == 404
    assert "there is no GET /v1/embeddings" in json.loads(said)["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_vanishes_frees_its_places(server, stream):
    body = {"model": "base", "messages": CHAT, "max_tokens": 900, "stream": stream, "temperature": 0, "n": 4}
    before = server.about()["given_up"]

    async def ask() -> None:
        headers, url = {"Authorization": f"Bearer {KEY}"}, f"{server.url}/chat/completions"
        async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as response:
            await response.read()

    async def vanish() -> None:
        asking = asyncio.create_task(ask())
        while (await asyncio.to_thread(server.about))["running"] < 4:
            assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(vanish())
    wait_for(lambda: server.about()["running"] == 0, PATIENCE, "the places to be free")
    assert server.about()["given_up"] == before + 4


def test_a_thousand_at_once_are_answered_or_told_to_come_again(server):
    async def ask(session: aiohttp.ClientSession, place: int) -> tuple[int, bool]:
        body = {"model": "tiny", "prompt": f"{place}", "max_tokens": 2, "temperature": 0}
        async with session.post(f"{server.url}/completions", json=body) as response:
            said = await response.json()
            return response.status, ("choices" in said) if response.status == 200 else ("error" in said)

    async def everybody() -> list[tuple[int, bool]]:
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": f"Bearer {KEY}"}
        timeout = aiohttp.ClientTimeout(300)
        async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
            return await asyncio.gather(*(ask(session, place) for place in range(1000)))

    found = asyncio.run(everybody())
    statuses = Counter(status for status, _ in found)
    assert all(fine for _, fine in found), statuses
    assert set(statuses) <= {200, 429}
    assert statuses[200] >= run.QUEUED
    assert server.client.completions.create(model="tiny", prompt="still there?", max_tokens=1).choices


def test_a_replica_that_dies_is_told_of_and_replaced(server):
    import ray

    replicas = [
        one for one in ray.util.list_named_actors(all_namespaces=True) if one["name"].startswith("SERVE_REPLICA")
    ]
    victim = next(one for one in replicas if "#model1#" in one["name"])
    events = server.client.completions.create(model="tiny", prompt="Hello", max_tokens=900, temperature=0, stream=True)
    next(events)
    ray.kill(ray.get_actor(victim["name"], namespace=victim["namespace"]))
    with pytest.raises(openai.APIError, match="lost; ask again"):
        list(events)

    def answers() -> bool:
        try:
            return bool(server.client.completions.create(model="tiny", prompt="Hello", max_tokens=1).choices)
        except openai.InternalServerError:
            return False

    wait_for(answers, PATIENCE, "another replica", every=0.5)


def test_lm_eval_finds_the_likelihoods_that_transformers_computes(server, model, tokenizer, monkeypatch):
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    harness = LocalCompletionsAPI(
        base_url=f"{server.url}/completions",
        model="tiny",
        tokenizer=resolve("tiny"),
        tokenizer_backend="huggingface",
        num_concurrent=2,
        batch_size=2,
    )
    pairs = [("The sky is", " blue."), ("The sky is", " made of cheese."), ("Two and two are", " four"), ("A", " B")]
    asked = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(pairs)]
    found = harness.loglikelihood(asked, disable_tqdm=True)
    for (context, continuation), (likelihood, is_greedy) in zip(pairs, found, strict=True):
        before, whole = harness.tok_encode(context), harness.tok_encode(context + continuation)
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        places = range(len(before), len(whole))
        assert likelihood == pytest.approx(sum(logits[one - 1, whole[one]].item() for one in places), abs=1e-3)
        assert is_greedy == all(logits[one - 1].argmax() == whole[one] for one in places)
