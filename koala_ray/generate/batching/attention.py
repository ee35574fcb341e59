"""Attention over transformers' paged cache on a CPU: each answer with its own keys, and no others' masked away.

transformers' own computes all queries against the keys of all answers and masks what isn't theirs: with 32 answers 31
of 32 products are thrown away. Here the answers that add one token are put into a few batches of like length, and
each stretch of a prompt is a call of its own. (30 answers after 82 prompt tokens each, SmolLM2-135M, 64 tokens: 184
instead of 90 tokens/s, together with the linear layers of :mod:`koala_ray.generate.batching.linear`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "paged|eager"
"""The name under which transformers' continuous batching asks for it; nothing else does."""
ALIKE = 1.4
"""Answers go into one batch if the longest is at most so many times as long as the shortest …"""
SLACK = 16
"""… and so many tokens."""


@dataclass(frozen=True)
class _Stretch:
    """Some tokens of one prompt, and the cache places of all its keys so far."""

    first: int
    end: int
    places: torch.Tensor | slice | None
    """None: its keys are just those of its own tokens."""


@dataclass(frozen=True)
class _Decoding:
    """Answers of like length that add one token each."""

    queries: torch.Tensor
    """(answers,) their queries' places."""
    places: torch.Tensor | slice
    """(answers · longest,) the cache places of their keys; the first key's again where one is shorter."""
    mask: torch.Tensor | None
    """(answers, 1, 1, longest): 0, or -inf where one is shorter; None if all are as long."""


class _Plan:
    """How one forward pass's queries and keys belong together; the same for all layers."""

    def __init__(self, query_ends: torch.Tensor, key_ends: torch.Tensor, places: torch.Tensor) -> None:
        """Sort them.

        Args:
            query_ends: (answers + 1,) where each answer's queries begin, and the last ones end.
            key_ends: (answers + 1,) the same of its keys.
            places: (keys,) their places in the cache; empty if no key is from before.
        """
        self.stretches: list[_Stretch] = []
        self.decoding: list[_Decoding] = []
        queries, keys = query_ends.tolist(), key_ends.tolist()
        one_more = []
        for first, end, key, last in zip(queries, queries[1:], keys, keys[1:], strict=False):
            if end == first:
                continue
            if end - first == 1 and len(places):
                one_more.append((last - key, key, first))
            else:
                self.stretches.append(_Stretch(first, end, _uncopied(places[key:last]) if len(places) else None))
        one_more.sort(reverse=True)
        while one_more:
            longest = one_more[0][0]
            alike = [one for one in one_more if one[0] * ALIKE >= longest - SLACK]
            del one_more[: len(alike)]
            self.decoding.append(_decoding(alike, longest, places))


def _decoding(answers: list[tuple[int, int, int]], longest: int, places: torch.Tensor) -> _Decoding:
    lengths, starts, queries = (torch.tensor(values) for values in zip(*answers, strict=True))
    column = torch.arange(longest)
    there = column < lengths[:, None]
    chosen = torch.where(there, starts[:, None] + column, starts[:, None])
    mask = None
    if not bool(there.all()):
        mask = torch.zeros(len(answers), 1, 1, longest).masked_fill_(~there[:, None, None], float("-inf"))
    return _Decoding(queries, _uncopied(places[chosen.view(-1)]), mask)


def _uncopied(places: torch.Tensor) -> torch.Tensor | slice:
    """Places that follow one another, as a long prompt's pages mostly do, as a slice: then nothing is copied."""
    first, last = int(places[0]), int(places[-1])
    if last - first == len(places) - 1 and bool((places[1:] > places[:-1]).all()):
        return slice(first, last + 1)
    return places


def _taken(states: torch.Tensor, places: torch.Tensor | slice) -> torch.Tensor:
    """What is at some places of the cache; (places, key heads, head size)."""
    return states[places] if isinstance(places, slice) else states.index_select(0, places)


class PagedAttention:
    """The attention function of one engine; transformers calls it for each layer."""

    def __init__(self) -> None:
        self._of: Any = None
        self._plan: _Plan | None = None

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        cache: Any = None,
        **given: Any,
    ) -> tuple[torch.Tensor, None]:
        """Causal attention: of one text where there is no cache, else of each answer with its keys in the cache.

        Args:
            module: the attention layer.
            query: (1, heads, tokens, head size).
            key: (1, key heads, tokens, head size); fewer key heads than heads are shared (grouped queries).
            value: as key.
            attention_mask: ignored: who belongs to whom is told by ``given``.
            scaling: factor on the scores; None is 1/√(head size).
            dropout: ignored: nothing is learnt here.
            cache: transformers' paged cache.
            given: what continuous batching tells of the pass.

        Returns:
            (1, tokens, heads, head size), and no weights.
        """
        grouped = key.shape[1] != query.shape[1]
        if cache is None:
            text = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
            return text.transpose(1, 2).contiguous(), None
        allocator = cache.layer_to_allocator[module.layer_idx]
        places = given["read_index"][allocator.index]
        if self._of is not given["cu_seq_lens_q"]:
            self._of = given["cu_seq_lens_q"]
            self._plan = _Plan(self._of, given["cu_seq_lens_k"][allocator.layer_type], places)
        assert self._plan
        # Views of the layer's whole cache, (places, key heads, head size).
        keys, values = (pages.flatten(0, 1) for pages in allocator.get_cache_for_block_table(module.layer_idx))
        written = given["write_index"][allocator.index]
        keys.index_copy_(0, written, key[0].transpose(0, 1))
        values.index_copy_(0, written, value[0].transpose(0, 1))
        heads, size = query.shape[1], query.shape[3]
        found = query.new_empty(query.shape[2], heads, size)
        for stretch in self._plan.stretches:
            found[stretch.first : stretch.end] = _of_stretch(stretch, query, key, value, keys, values, scaling)
        for batch in self._plan.decoding:
            shared = (len(batch.queries), -1, keys.shape[1], size)
            attended = scaled_dot_product_attention(
                query[0, :, batch.queries].transpose(0, 1).reshape(len(batch.queries), keys.shape[1], -1, size),
                _taken(keys, batch.places).view(shared).transpose(1, 2),
                _taken(values, batch.places).view(shared).transpose(1, 2),
                attn_mask=batch.mask,
                scale=scaling,
            )
            found.index_copy_(0, batch.queries, attended.reshape(len(batch.queries), heads, size))
        return found[None], None


def _of_stretch(
    stretch: _Stretch,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float | None,
) -> torch.Tensor:
    own = query[:, :, stretch.first : stretch.end]
    count = stretch.end - stretch.first
    mask = None
    if stretch.places is None:
        k, v = (states[:, :, stretch.first : stretch.end] for states in (key, value))
    else:
        k, v = (_taken(states, stretch.places).transpose(0, 1)[None] for states in (keys, values))
        if k.shape[2] > count:
            mask = torch.ones(count, k.shape[2], dtype=torch.bool).tril(k.shape[2] - count)
    attended = scaled_dot_product_attention(
        own, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=k.shape[1] != own.shape[1]
    )
    return attended[0].transpose(0, 1)


def use_paged_attention(model: Any) -> None:
    """Let a model's attention be this one; the process's only engine owns the name."""
    AttentionInterface.register(NAME, PagedAttention())
    model.set_attn_implementation(NAME)
