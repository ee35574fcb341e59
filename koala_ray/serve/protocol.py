"""OpenAI's completion and chat requests as far as they can be fulfilled; what can't be is refused, not ignored.

Beyond OpenAI's own: ``top_k``, ``repetition_penalty``, and in chats ``marker`` (``negative`` asks for an answer as
training had it under "An Unhelpful Answer:").
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from koala_ray.generate.replica import Ask
from koala_ray.generate.sampling import MAX_LOGPROBS, SEEDS, Sampling, own_seed
from koala_ray.records import Turn

MOST_CHOICES = 64
"""Answers to one request at most, over all its prompts."""
REFUSED = ("tools", "functions", "logit_bias", "suffix", "response_format", "modalities", "audio", "prediction")
"""What OpenAI has and Koala's models don't."""


class StreamOptions(BaseModel):
    """What a stream tells besides text."""

    include_usage: bool = False


class Common(BaseModel):
    """What both kinds of requests have."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_there(cls, values: Any) -> Any:
        asked = [name for name in REFUSED if isinstance(values, dict) and values.get(name)]
        if asked:
            raise ValueError(f"{asked[0]} is not supported")
        return values

    @model_validator(mode="after")
    def _refuse_penalties(self) -> Common:
        if self.presence_penalty or self.frequency_penalty:
            raise ValueError("presence_penalty and frequency_penalty are not supported; repetition_penalty is")
        return self

    def sampling(self, max_tokens: int, logprobs: int | None) -> Sampling:
        """The sampling of the first answer."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            stop=stop,
            seed=secrets.randbelow(SEEDS) if self.seed is None else self.seed,
            logprobs=logprobs,
        )


class CompletionRequest(Common):
    """``/v1/completions``."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=0)] = 16
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool = False
    best_of: int | None = None

    @model_validator(mode="after")
    def _check(self) -> CompletionRequest:
        if self.best_of not in (None, self.n):
            raise ValueError("best_of other than n is not supported")
        if not self.max_tokens and not self.echo:
            raise ValueError("max_tokens of 0 asks for nothing, unless echo is true")
        if self.echo and self.stream:
            raise ValueError("echo can't be streamed")
        if not 1 <= len(self.prompts) * self.n <= MOST_CHOICES:
            raise ValueError(f"prompts × n must be 1 to {MOST_CHOICES}, it is {len(self.prompts) * self.n}")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)  # type: ignore[arg-type]

    def asks(self) -> list[Ask]:
        """What the replicas are asked, in the order of the choices."""
        sampling = self.sampling(max(1, self.max_tokens), self.logprobs)
        return [
            Ask(_own(sampling, index), ids=prompt if isinstance(prompt, list) else None, text=_text(prompt))
            for prompt in self.prompts
            for index in range(self.n)
        ]


class Message(BaseModel):
    """One message of a chat."""

    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: str | list[dict[str, Any]]

    @model_validator(mode="after")
    def _check(self) -> Message:
        if self.role not in ("user", "assistant"):
            raise ValueError(f"a {self.role} message is not supported: Koala's dialogues have users and assistants")
        if isinstance(self.content, list) and any(part.get("type") != "text" for part in self.content):
            raise ValueError("only parts of type text are supported")
        return self

    @property
    def text(self) -> str:
        """What is said."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text", "")) for part in self.content)


class ChatRequest(Common):
    """``/v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] = 0
    marker: Literal["positive", "negative"] = "positive"

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        if not self.messages[-1].text.strip():
            raise ValueError("the last message is empty")
        return self

    def asks(self) -> list[Ask]:
        """What the replicas are asked, in the order of the choices."""
        most = self.max_completion_tokens or self.max_tokens
        sampling = self.sampling(most or 1, self.top_logprobs if self.logprobs else None)
        turns = [Turn(message.role, message.text) for message in self.messages]  # type: ignore[arg-type]
        return [
            Ask(_own(sampling, index), turns=turns, marker=self.marker, fill=most is None) for index in range(self.n)
        ]


def _own(sampling: Sampling, index: int) -> Sampling:
    """The sampling of one of several answers: the first has the seed that was given."""
    return replace(sampling, seed=own_seed(sampling.seed, [], index)) if index else sampling


def _text(prompt: str | list[int]) -> str | None:
    return prompt if isinstance(prompt, str) else None
