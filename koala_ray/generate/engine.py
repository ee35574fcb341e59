"""The transformers engine: continuous batching, ids in and ids out.

An engine runs as a Ray actor, so it has its CPUs or GPU to itself wherever the cluster has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from koala_ray.models.resolve import resolve
from koala_ray.recipe import GenerateSettings

PAGE = 64
"""Tokens in a page of the key-value cache."""
PREFILL_TOKENS = 512
"""Prompt tokens that are read in one forward pass at most."""


@dataclass(frozen=True)
class Request:
    """What an engine is asked: the ids after which it answers."""

    id: str
    ids: list[int]


@dataclass(frozen=True)
class Generated:
    """What an engine gives: the answer's ids without the end-of-sequence id, or why there is none."""

    id: str
    ids: list[int]
    ended: bool
    """Whether the model ended the answer itself."""
    error: str = ""


class TransformersEngine:
    """Answers by transformers' continuous batching: a finished request's place is taken by the next at once."""

    def __init__(self, model: str, settings: GenerateSettings) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from koala_ray.quiet import quiet_transformers

        quiet_transformers()
        if not settings.gpus:
            torch.set_num_threads(max(1, int(settings.cpus)))
        torch.manual_seed(settings.seed)
        dtype = torch.bfloat16 if settings.gpus else torch.float32
        device = "cuda" if settings.gpus else "cpu"
        loaded: Any = AutoModelForCausalLM.from_pretrained(resolve(model), dtype=dtype)
        self._model = loaded.to(device).eval()
        self._settings = settings

    def ready(self) -> bool:
        """True; answers once the model is loaded."""
        return True

    def generate(self, requests: list[Request], eos_id: int) -> Iterator[Generated]:
        """The answers, each as soon as it is finished."""
        if not requests:
            return
        manager = self._manager(requests, eos_id)
        manager.start()
        try:
            for request in requests:
                manager.add_request(request.ids, request_id=request.id, max_new_tokens=self._settings.max_tokens)
            for _ in requests:
                yield self._next(manager, eos_id)
        finally:
            manager.stop(block=True)

    def _next(self, manager: Any, eos_id: int) -> Generated:
        while True:
            output = manager.get_result(timeout=600)
            if output is None:
                raise RuntimeError("the engine stopped answering")
            if output.is_finished():
                ids = list(output.generated_tokens)
                ended = bool(ids) and ids[-1] == eos_id
                return Generated(output.request_id, ids[:-1] if ended else ids, ended, output.error or "")

    def _manager(self, requests: list[Request], eos_id: int) -> Any:
        from transformers import GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        settings = self._settings
        generation = GenerationConfig(
            max_new_tokens=settings.max_tokens,
            do_sample=settings.temperature > 0,
            temperature=settings.temperature or None,
            top_p=settings.top_p,
            top_k=settings.top_k or None,
            eos_token_id=eos_id,
            pad_token_id=eos_id,
        )
        longest = max(len(request.ids) for request in requests) + settings.max_tokens
        concurrent = min(settings.concurrent, len(requests))
        batching = ContinuousBatchingConfig(
            page_size=PAGE,
            # Left to itself it takes most of the machine's memory for the cache.
            num_blocks=concurrent * (longest // PAGE + 2),
            max_batch_tokens=max(PREFILL_TOKENS, concurrent),
            max_requests_per_batch=concurrent,
            seed=settings.seed,
        )
        return self._model.init_continuous_batching(generation_config=generation, continuous_batching_config=batching)
