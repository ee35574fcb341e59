"""Small models of many kinds, for the tests of what may be trained."""

from __future__ import annotations

from typing import Any

import transformers
from test_verify import END

SMALL = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": END,
    "pad_token_id": 2,
}
NO_DROPOUT = {
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "embedding_dropout": 0.0,
    "residual_dropout": 0.0,
}


def small_config(kind: str, **settings: Any) -> Any:
    """The configuration of a small model of a kind, such as ``Llama``, that the tiny tokenizer belongs to."""
    return getattr(transformers, f"{kind}Config")(**{**SMALL, **settings})
