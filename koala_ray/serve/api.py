"""The HTTP side: OpenAI's routes, which ask the replicas of the model that a request names.

Whoever goes away takes the place of their answer along: when a client hangs up, Serve cancels the request here, and
with it the replica's.
"""

# Without postponed annotations: FastAPI reads those of the routes where their names are not known.
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from ray import serve

from koala_ray.generate.replica import Ask, Part, Reply, Scored
from koala_ray.serve import replies
from koala_ray.serve.asking import all_of, answered, merged
from koala_ray.serve.protocol import ChatRequest, CompletionRequest
from koala_ray.serve.replies import Envelope, Refused

api = FastAPI(title="koala-ray", docs_url=None, redoc_url=None)
RETRY_SECONDS = 5


@api.exception_handler(Refused)
async def _refused(request: Request, error: Refused) -> Response:
    headers = {"Retry-After": str(RETRY_SECONDS)} if error.status in (429, 503) else {}
    return JSONResponse(error.body, error.status, headers)


@api.exception_handler(RequestValidationError)
async def _invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        place, text = "", f"the body is not valid JSON: {first.get('ctx', {}).get('error', text)}"
    refused = Refused(400, f"{place}: {text}" if place else text, "invalid_request_error", param=place or None)
    return JSONResponse(refused.body, 400)


@api.exception_handler(404)
@api.exception_handler(405)
async def _no_route(request: Request, error: Any) -> Response:
    text = f"there is no {request.method} {request.url.path} here"
    return JSONResponse(Refused(error.status_code, text, "invalid_request_error").body, error.status_code)


@serve.deployment(name="api")
@serve.ingress(api)
class Api:
    """The deployment that takes requests; it holds no model."""

    def __init__(self, models: dict[str, dict[str, Any]], keys: Sequence[str], **handles: Any) -> None:
        """Take the models.

        Args:
            models: what is told of each under ``/v1/models``, by name.
            keys: one of which each request must bear; none asks for no key.
            handles: the replicas of each model, ``model0`` and so on in the models' order.
        """
        self._models, self._keys = models, [key.encode() for key in keys]
        self._handles = {name: handles[f"model{place}"] for place, name in enumerate(models)}
        self._started = int(time.time())

    @api.get("/health")
    async def health(self) -> Response:
        """Whether this answers at all; Serve looks after the replicas."""
        return JSONResponse({"status": "ok"})

    @api.get("/v1/models")
    async def models(self, request: Request) -> Response:
        """The models that can be asked."""
        self._admit(request)
        return JSONResponse({"object": "list", "data": [self._card(name) for name in self._models]})

    @api.get("/v1/models/{name:path}")
    async def model(self, name: str, request: Request) -> Response:
        """One of them."""
        self._admit(request)
        self._handle(name)
        return JSONResponse(self._card(name))

    @api.post("/v1/completions")
    async def completions(self, asked: CompletionRequest, request: Request) -> Response:
        """Go on with a text."""
        self._admit(request)
        handle, asks = self._handle(asked.model), asked.asks()
        envelope = Envelope("text_completion", asked.model)

        def choice(index: int, text: str, logprobs: Any, finish: str) -> dict[str, Any]:
            return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish or None}

        if asked.stream:

            def chunk(index: int, part: Part) -> dict[str, Any]:
                told = asked.logprobs is not None
                logprobs = replies.completion_logprobs(part.piece.tokens, part.names) if told else None
                return choice(index, part.piece.text, logprobs, part.piece.finish)

            return await self._streamed(handle, asks, envelope, chunk, asked)
        scored: list[Scored | None] = [None] * len(asks)
        if asked.echo:
            scored = list(await all_of(answered(handle.score, ask) for ask in asks))
        generated: list[Reply] = [Reply(finish="length") for _ in asks]
        if asked.max_tokens:
            generated = await all_of(answered(handle.reply, ask) for ask in asks)
        choices = []
        for index, (before, reply) in enumerate(zip(scored, generated, strict=True)):
            text = before.text if before else ""
            logprobs = None
            if asked.logprobs is not None:
                tokens = [*(before.tokens if before else []), *reply.tokens]
                logprobs = replies.completion_logprobs(tokens, {**(before.names if before else {}), **reply.names})
            choices.append(choice(index, text + reply.text, logprobs, reply.finish))
        read = [
            len(before.tokens) if before else reply.prompt_tokens
            for before, reply in zip(scored, generated, strict=True)
        ]
        written = sum(len(reply.ids) + reply.ended for reply in generated)
        return JSONResponse(envelope.whole(choices, replies.usage(sum(read[:: asked.n]), written)))

    @api.post("/v1/chat/completions")
    async def chat(self, asked: ChatRequest, request: Request) -> Response:
        """Answer in a dialogue, in Koala's template."""
        self._admit(request)
        handle, asks = self._handle(asked.model), asked.asks()
        envelope = Envelope("chat.completion", asked.model)
        if asked.stream:

            def chunk(index: int, part: Part) -> dict[str, Any]:
                logprobs = replies.chat_logprobs(part.piece.tokens, part.names) if asked.logprobs else None
                delta = {"content": part.piece.text} if part.piece.text or not part.piece.finish else {}
                finish = part.piece.finish or None
                return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

            opening = [
                {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                for index in range(len(asks))
            ]
            return await self._streamed(handle, asks, envelope, chunk, asked, opening)
        generated = await all_of(answered(handle.reply, ask) for ask in asks)
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": reply.text, "refusal": None},
                "logprobs": replies.chat_logprobs(reply.tokens, reply.names) if asked.logprobs else None,
                "finish_reason": reply.finish,
            }
            for index, reply in enumerate(generated)
        ]
        written = sum(len(reply.ids) + reply.ended for reply in generated)
        return JSONResponse(envelope.whole(choices, replies.usage(generated[0].prompt_tokens, written)))

    async def _streamed(
        self, handle: Any, asks: list[Ask], envelope: Envelope, chunk: Any, asked: Any, opening: Sequence[Any] = ()
    ) -> Response:
        """A stream whose first words have been waited for: until then an error still has a status."""
        events = merged([handle.options(stream=True).stream.remote(ask) for ask in asks])
        read: dict[int, int] = {}
        try:
            while len(read) < len(asks):
                index, prompt_tokens = await anext(events)
                read[index] = prompt_tokens
        except BaseException:
            await events.aclose()
            raise

        async def body() -> AsyncIterator[str]:
            written = 0
            try:
                for first in opening:
                    yield envelope.chunk([first])
                async for index, part in events:
                    written += len(part.piece.tokens) + part.piece.ended
                    yield envelope.chunk([chunk(index, part)])
                if asked.stream_options and asked.stream_options.include_usage:
                    prompt_tokens = sum(list(read.values())[:: asked.n])
                    yield envelope.chunk([], replies.usage(prompt_tokens, written))
                yield replies.DONE
            except Refused as error:  # the status is out: the error comes as an event
                yield replies.event(error.body)
            finally:
                await events.aclose()

        return StreamingResponse(body(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    def _admit(self, request: Request) -> None:
        """Refuse whoever has no key, where keys are asked for."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip().encode()
        if self._keys and not any(hmac.compare_digest(given, key) for key in self._keys):
            text = "this server asks for an API key: Authorization: Bearer KEY"
            raise Refused(401, text, "authentication_error", "invalid_api_key")

    def _handle(self, name: str) -> Any:
        if name not in self._handles:
            known = ", ".join(self._handles)
            text = f"the model {name!r} is not served here; there are {known}"
            raise Refused(404, text, "invalid_request_error", "model_not_found", "model")
        return self._handles[name]

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "koala-ray", **self._models[name]}
