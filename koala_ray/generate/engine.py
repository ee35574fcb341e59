"""What koala-ray asks of an engine that generates: ids in, ids out, one token after the other.

Two fulfil it: transformers' continuous batching (:mod:`koala_ray.generate.batching`) and vLLM
(:mod:`koala_ray.generate.vllm_engine`). Stop strings, text and dialogues are not theirs but
:mod:`koala_ray.generate.answering`'s, so that both mean the same by them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from koala_ray.errors import KoalaError
from koala_ray.generate.sampling import Sampling

EngineName = Literal["transformers", "vllm"]


@dataclass(frozen=True)
class Token:
    """One token of an answer, or of a prompt whose likelihood is asked for."""

    id: int
    logprob: float | None = None
    """Of the token after those before it, as the model has it: before temperature and penalties."""
    alternatives: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens at this place with their log-probabilities, likeliest first."""


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is opened with."""

    model: str
    """What :func:`koala_ray.models.resolve.resolve` takes."""
    concurrent: int
    """Answers that are generated at the same time."""
    cpus: float = 1
    """Its number of threads, where it runs on a CPU."""
    gpus: int = 0
    """GPUs that it is spread over (tensor parallel); 0 runs it on a CPU."""


class EngineFailed(RuntimeError):
    """The engine itself stopped working: nothing it is asked will be answered."""


class Engine(Protocol):
    """Generates for many prompts at once."""

    context: int
    """Tokens of a prompt and its answer together at most."""
    vocabulary: int
    """Ids are smaller than this."""
    name: EngineName

    def generate(
        self, ids: Sequence[int], sampling: Sampling, eos_id: int, at_once: bool = False
    ) -> AsyncGenerator[Token]:
        """The answer's tokens as they are drawn; the last one is ``eos_id`` where the model ended by itself.

        Closing the iterator gives the place to another prompt.

        Args:
            ids: the prompt.
            sampling: how the answer is drawn.
            eos_id: the token that ends it.
            at_once: nobody needs a token before the last one is there, which spares telling of each.

        Raises:
            EngineFailed: the engine stopped.
        """

    async def score(self, ids: Sequence[int], alternatives: int) -> list[Token]:
        """The prompt's own tokens, each but the first with its log-probability."""

    def check(self) -> None:
        """Raise :class:`EngineFailed` if it doesn't work any more."""

    def close(self) -> None:
        """End it; what is being generated fails."""


def open_engine(name: EngineName, settings: EngineSettings) -> Engine:
    """Load a model into an engine; takes as long as loading takes.

    Raises:
        KoalaError: there is no such model, or the engine isn't installed.
    """
    if name == "vllm":
        try:
            from koala_ray.generate.vllm_engine import VllmEngine
        except ImportError as error:
            raise KoalaError(
                f"vLLM can't be imported: {error}",
                where="generate.engine",
                mend="pip install 'koala-ray[vllm]', or --set generate.engine=transformers",
            ) from error
        return VllmEngine(settings)
    from koala_ray.generate.batching.engine import BatchingEngine

    return BatchingEngine(settings)
