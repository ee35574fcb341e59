"""transformers' continuous batching as an engine: a finished answer's place is taken by the next prompt at once."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from koala_ray.generate.engine import EngineFailed, EngineName, EngineSettings, Token
from koala_ray.generate.sampling import Sampling
from koala_ray.models.resolve import resolve

PAGE = 128
"""Tokens in a page of the key-value cache."""
PREFILL_TOKENS = 512
"""Tokens that one forward pass takes at most; prompts are read in stretches, so that answers go on beside them."""
USUAL_TOKENS = 1024
"""Cache is set aside for so many tokens of each answer; where answers are longer, fewer run at a time."""
CHECK_SECONDS = 2.0
"""How long an answer says nothing before it is asked whether the engine still works."""
SCORED_AT_ONCE = 256
"""Tokens whose logits over the whole vocabulary are held at a time."""


class BatchingEngine:
    """Generates with a Hugging Face model in this process."""

    name: EngineName = "transformers"

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model and start.

        Raises:
            KoalaError: there is no such model.
        """
        import torch
        from transformers import AutoModelForCausalLM

        from koala_ray.generate.batching.attention import use_paged_attention
        from koala_ray.generate.batching.linear import pack_linears
        from koala_ray.quiet import quiet_transformers

        quiet_transformers()
        on_gpu = settings.gpus > 0
        if not on_gpu:
            torch.set_num_threads(max(1, int(settings.cpus)))
        dtype = torch.bfloat16 if on_gpu else torch.float32
        loaded: Any = AutoModelForCausalLM.from_pretrained(resolve(settings.model), dtype=dtype)
        self._model = loaded.to("cuda" if on_gpu else "cpu").eval()
        self.vocabulary = int(self._model.config.vocab_size)
        self.context = int(getattr(self._model.config, "max_position_embeddings", 2048))
        if not on_gpu:
            use_paged_attention(self._model)
            with torch.no_grad():
                pack_linears(self._model, settings.concurrent)
        self._names = itertools.count()
        self._scorer = ThreadPoolExecutor(1, "score")
        self._manager = self._started(settings.concurrent)

    def _started(self, concurrent: int) -> Any:
        from transformers import GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        from koala_ray.generate.batching.sampler import Sampler

        usual = concurrent * math.ceil(min(USUAL_TOKENS, self.context) / PAGE)
        manager = self._model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE,
                num_blocks=max(usual, math.ceil(self.context / PAGE) + 1),
                max_batch_tokens=max(PREFILL_TOKENS, concurrent),
                max_requests_per_batch=concurrent,
                # The sampler is Python and needs the answers' own order: no graphs, no second batch in flight.
                use_cuda_graph=False,
                use_async_batching=False,
                max_blocks_per_request=0,
                auto_switch_to_flash=False,
            ),
        )
        manager.logit_processor = Sampler()
        manager.start()
        return manager

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, eos_id: int, at_once: bool = False
    ) -> AsyncGenerator[Token]:
        """See :class:`koala_ray.generate.engine.Engine`."""
        from koala_ray.generate.batching.sampler import Drawn

        self.check()
        name, drawn = str(next(self._names)), Drawn(sampling, ids)
        news: asyncio.Queue[Any] = asyncio.Queue()
        self._manager.register_result_handler(name, news.put_nowait)
        told, finished = 0, False
        try:
            self._manager.add_request(
                list(ids), name, sampling.max_tokens, streaming=not at_once, eos_token_id=eos_id, drawn=drawn
            )
            while not finished:
                output = await self._next(news)
                finished = output.is_finished()
                if output.error:
                    raise EngineFailed(output.error)
                # What is ready now; the engine may have drawn more than it has told.
                for token in drawn.tokens[told : len(output.generated_tokens)]:
                    yield token
                told = len(output.generated_tokens)
        finally:
            if not finished:
                self._forget(name)

    async def _next(self, news: asyncio.Queue[Any]) -> Any:
        """What is told next; a request that has just come when the engine stops is never told of."""
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    return await news.get()
            except TimeoutError:
                self.check()

    def _forget(self, name: str) -> None:
        router = self._manager.output_router
        with router._lock:  # a cancelled request is never told of again
            router.result_handlers.pop(name, None)
        self._manager.cancel_request(name)

    async def score(self, ids: Sequence[int], alternatives: int) -> list[Token]:
        """See :class:`koala_ray.generate.engine.Engine`."""
        return await asyncio.get_running_loop().run_in_executor(self._scorer, self._score, list(ids), alternatives)

    def _score(self, ids: list[int], alternatives: int) -> list[Token]:
        import torch

        from koala_ray.generate.batching.sampler import describe

        with torch.inference_mode():
            given = torch.tensor([ids], device=self._model.device)
            states = self._model.get_decoder()(input_ids=given, use_cache=False).last_hidden_state[0]
            tokens = [Token(ids[0])]
            for first in range(0, len(ids) - 1, SCORED_AT_ONCE):
                end = min(first + SCORED_AT_ONCE, len(ids) - 1)
                logits = self._model.get_output_embeddings()(states[first:end]).float()
                tokens += describe(logits, given[0, first + 1 : end + 1], alternatives)
        return tokens

    def check(self) -> None:
        """See :class:`koala_ray.generate.engine.Engine`."""
        if not self._manager.is_running():
            fatal = self._manager.background_thread_status.fatal_error
            raise EngineFailed(f"the engine stopped: {fatal or 'it was closed'}")

    def close(self) -> None:
        """See :class:`koala_ray.generate.engine.Engine`."""
        if self._manager.is_running():
            self._manager.stop(block=True, hard_stop=True)
        self._scorer.shutdown(wait=False, cancel_futures=True)
