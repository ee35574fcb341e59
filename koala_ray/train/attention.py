"""Attention that keeps packed dialogues apart by construction: each dialogue is attended to alone.

A packed row is one long sequence for everything but attention. Here it is cut at the dialogues' borders, so
no mask has to be right, none is made, and the cost is the sum of the squares of the dialogues' lengths.
On GPUs in half precision one call of torch's variable-length attention (flash attention) does all dialogues;
elsewhere each dialogue is a call of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from koala_ray.errors import KoalaError

NAME = "koala_isolated"
HALF = (torch.bfloat16, torch.float16)


def isolated_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    dialogue_lengths: tuple[int, ...] | None = None,
    dialogue_borders: torch.Tensor | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each dialogue of a flattened batch.

    Args:
        module: the attention layer, unused.
        query: (1, heads, tokens, head size).
        key: (1, key heads, tokens, head size); fewer key heads than heads are shared (grouped queries).
        value: as key.
        attention_mask: must be None: isolation is by cutting.
        dropout: probability with which attention weights are dropped.
        scaling: factor on the scores; None is 1/√(head size).
        dialogue_lengths: tokens of each dialogue in order; they sum to ``tokens``.
        dialogue_borders: (dialogues + 1,), int32: where each dialogue begins, and where the last one ends.

    Returns:
        (1, tokens, heads, head size), and no weights.
    """
    if dialogue_lengths is None:
        raise ValueError("isolated attention needs dialogue_lengths with every call of the model")
    if attention_mask is not None:
        raise ValueError("isolated attention takes no mask: dialogues are kept apart by cutting")
    grouped = key.shape[1] != query.shape[1]
    if dialogue_borders is not None and query.is_cuda and query.dtype in HALF and not dropout:
        return _in_one_call(query, key, value, dialogue_borders, max(dialogue_lengths), scaling, grouped), None
    pieces = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(
            *(states.split(list(dialogue_lengths), dim=2) for states in (query, key, value)), strict=True
        )
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2).contiguous(), None


def _in_one_call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    scaling: float | None,
    grouped: bool,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    attended: Any = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        borders,
        borders,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),  # all that came before, nothing that comes after
        enable_gqa=grouped,
    )
    return attended[None]


AttentionInterface.register(NAME, isolated_attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


def require_isolated(model: PreTrainedModel) -> None:
    """Refuse a model that would not run this attention.

    Raises:
        KoalaError: the model was loaded with another implementation, or has its own attention code.
    """
    used = model.config._attn_implementation
    if used != NAME or not getattr(model, "_supports_attention_backend", False):
        raise KoalaError(
            f"attention {used!r} of {type(model).__name__} can't keep packed dialogues apart",
            where="model.attention",
            mend="use a model that takes transformers' attention interface, such as a Llama",
        )
