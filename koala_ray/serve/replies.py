"""What OpenAI's clients are answered: objects, chunks of a stream, log-probabilities, errors."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.generate.engine import Token


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, kind: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refused(error: KoalaError) -> Refused:
    """A replica's no."""
    long = "don't fit into the model's" in error.error
    text = f"{error.error}; {error.mend}" if error.mend else error.error
    code = "context_length_exceeded" if long else "invalid_value"
    return Refused(400, text, "invalid_request_error", code, error.where or None)


@dataclass(frozen=True)
class Envelope:
    """What all objects of one answer share."""

    kind: str
    """``text_completion`` or ``chat.completion``."""
    model: str
    id: str = field(default_factory=lambda: f"koala-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, int]) -> dict[str, Any]:
        """The answer in one object."""
        return {**self._head(self.kind), "choices": list(choices), "usage": dict(usage)}

    def chunk(self, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, int] | None = None) -> str:
        """A server-sent event with a part of the answer."""
        kind = "chat.completion.chunk" if self.kind == "chat.completion" else self.kind
        body = {**self._head(kind), "choices": list(choices), **({"usage": dict(usage)} if usage else {})}
        return event(body)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def event(body: Mapping[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


DONE = "data: [DONE]\n\n"


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's count of tokens."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def completion_logprobs(tokens: Sequence[Token], names: Mapping[int, str], offset: int = 0) -> dict[str, Any]:
    """``/v1/completions``' log-probabilities: lists with one entry a token.

    Two alternatives with one text, which byte tokens may have, are told as the likelier of them.
    """
    texts = [names[token.id] for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_by_text(token, names) for token in tokens],
        "text_offset": offsets,
    }


def _by_text(token: Token, names: Mapping[int, str]) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    told: dict[str, float] = {}
    for id_, logprob in (*token.alternatives, (token.id, token.logprob)):
        told.setdefault(names[id_], logprob)
    return told


def chat_logprobs(tokens: Sequence[Token], names: Mapping[int, str]) -> dict[str, Any]:
    """``/v1/chat/completions``' log-probabilities: an object a token."""

    def one(id_: int, logprob: float | None) -> dict[str, Any]:
        return {"token": names[id_], "logprob": logprob, "bytes": list(names[id_].encode())}

    return {
        "content": [
            {**one(token.id, token.logprob), "top_logprobs": [one(*other) for other in token.alternatives]}
            for token in tokens
        ]
    }
