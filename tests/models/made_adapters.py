"""Base models and LoRA adapters for the tests, made and saved with transformers and peft themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def make_base(folder: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
    """A small Llama with random weights."""
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**SMALL, **settings})).to(dtype).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, base: str | Path, *, seed: int = 0, tokens: int = 0, kind: Any = LoraConfig, **settings):
    """An adapter after two steps of training on random ids.

    Args:
        folder: where it is saved.
        base: the base model's folder.
        seed: of the ids and of the first weights.
        tokens: the base's embeddings are resized to so many first; 0 leaves them.
        kind: peft's class of settings.
        settings: of that class.
    """
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if tokens:
        network.resize_token_embeddings(tokens)
    defaults = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj", "down_proj"]}
    if kind is LoraConfig:
        defaults |= {"r": 4, "lora_alpha": 8}
    adapted = get_peft_model(network, kind(**{**defaults, **settings}))
    optimizer = torch.optim.AdamW([weight for weight in adapted.parameters() if weight.requires_grad], lr=0.02)
    for _ in range(2):
        ids = torch.randint(0, network.config.vocab_size, (2, 24))
        adapted(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save_pretrained(folder)
    return folder


def edit(folder: Path, **settings: Any) -> Path:
    """Change an adapter's settings."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def prompt(vocabulary: int, length: int = 20) -> torch.Tensor:
    """Random ids."""
    return torch.randint(0, vocabulary, (1, length), generator=torch.Generator().manual_seed(9))


@torch.no_grad()
def unmerged_logits(folder: Path, base: str | Path, ids: torch.Tensor, tokens: int = 0) -> torch.Tensor:
    """What peft's own model says, the adapter beside the base's layers, in float32."""
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if tokens:
        network.resize_token_embeddings(tokens)
    return PeftModel.from_pretrained(network, folder).eval()(input_ids=ids).logits


@torch.no_grad()
def logits(model: str | Path, ids: torch.Tensor) -> torch.Tensor:
    """What a whole model says, in float32."""
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()(input_ids=ids).logits
