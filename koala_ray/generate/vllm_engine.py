"""vLLM as an engine: on GPUs, and its CPU build."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from koala_ray.generate.engine import EngineFailed, EngineName, EngineSettings, Token
from koala_ray.generate.sampling import MAX_LOGPROBS, Sampling
from koala_ray.models.resolve import resolve


class VllmEngine:
    """Generates with vLLM's AsyncLLM, whose core is a process of its own."""

    name: EngineName = "vllm"

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model and start; must be called where an event loop runs, or may run later in this thread.

        Raises:
            KoalaError: there is no such model.
        """
        arguments = AsyncEngineArgs(
            model=resolve(settings.model),
            dtype="bfloat16" if settings.gpus else "float32",
            max_num_seqs=settings.concurrent,
            tensor_parallel_size=max(1, settings.gpus),
            max_logprobs=MAX_LOGPROBS,
            seed=0,
            disable_log_stats=True,
            enable_log_requests=False,
        )
        self._engine = AsyncLLM.from_engine_args(arguments)
        self.context = int(self._engine.model_config.max_model_len)
        self.vocabulary = int(self._engine.model_config.get_vocab_size())
        self._names = itertools.count()

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, eos_id: int, at_once: bool = False
    ) -> AsyncGenerator[Token]:
        """See :class:`koala_ray.generate.engine.Engine`."""
        parameters = SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or -1,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            logprobs=sampling.logprobs,
            stop_token_ids=[eos_id],
            ignore_eos=True,  # the model's own notion of its end; ours is the template's
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY if at_once else RequestOutputKind.DELTA,
        )
        async for output in self._outputs(list(ids), parameters):
            one = output.outputs[0]
            logprobs = one.logprobs or [None] * len(one.token_ids)
            for id_, told in zip(one.token_ids, logprobs, strict=True):
                yield _token(id_, told, sampling.logprobs)

    async def score(self, ids: Sequence[int], alternatives: int) -> list[Token]:
        """See :class:`koala_ray.generate.engine.Engine`."""
        parameters = SamplingParams(
            max_tokens=1, temperature=0, prompt_logprobs=alternatives, detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )  # fmt: skip
        found: list[Token] = []
        async for output in self._outputs(list(ids), parameters):
            told = output.prompt_logprobs or []
            found = [_token(id_, one, alternatives) for id_, one in zip(ids, told, strict=True)]
        return found

    async def _outputs(self, ids: list[int], parameters: SamplingParams) -> AsyncGenerator[Any]:
        from vllm.v1.engine.exceptions import EngineDeadError

        name = str(next(self._names))
        try:
            async for output in self._engine.generate({"prompt_token_ids": ids}, parameters, name):
                yield output
        except EngineDeadError as error:
            raise EngineFailed(f"vLLM stopped: {error}") from error

    def check(self) -> None:
        """See :class:`koala_ray.generate.engine.Engine`."""
        if self._engine.errored:
            raise EngineFailed(f"vLLM stopped: {self._engine.dead_error}")

    def close(self) -> None:
        """See :class:`koala_ray.generate.engine.Engine`."""
        self._engine.shutdown()


def _token(id_: int, told: Any, alternatives: int | None) -> Token:
    """vLLM tells {id: logprob} of the chosen token and the likeliest ones."""
    if not told:
        return Token(id_)
    likeliest = sorted((one.rank, other, one.logprob) for other, one in told.items() if one.rank is not None)
    others = tuple((other, logprob) for _, other, logprob in likeliest[: alternatives or 0])
    return Token(id_, told[id_].logprob, others)
