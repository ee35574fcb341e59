"""The shape of a base model: what memory and FLOPs are computed from, without its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.models.resolve import TRAINED

GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "smollm3")
"""transformers' model types with a gated MLP of three matrices and RMS norms, as the formulas here assume."""


@dataclass(frozen=True)
class ModelShape:
    """A decoder of Llama's kind."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    tied: bool
    """Whether the head is the embedding's matrix."""

    @property
    def attention_width(self) -> int:
        """Width of all heads together; mostly the hidden size."""
        return self.heads * self.head_size

    @property
    def key_value_width(self) -> int:
        """Width of all key heads together; less than all heads' where queries share them."""
        return self.key_value_heads * self.head_size

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one decoder layer by the names that adapters target: (inputs, outputs)."""
        return {
            "q_proj": (self.hidden, self.attention_width),
            "k_proj": (self.hidden, self.key_value_width),
            "v_proj": (self.hidden, self.key_value_width),
            "o_proj": (self.attention_width, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer."""
        return sum(inputs * outputs for inputs, outputs in self.linears.values()) + 2 * self.hidden

    @property
    def table(self) -> int:
        """Parameters of the embedding, and of the head as well."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.layers * self.layer_parameters + self.hidden + self.table * (1 if self.tied else 2)

    @property
    def multiplied(self) -> int:
        """Parameters that every token is multiplied with: all but an embedding that isn't the head, too."""
        return self.parameters - (0 if self.tied else self.table)

    def adapter_parameters(self, rank: int, targets: Sequence[str]) -> int:
        """Parameters of low-rank adapters: rank · (inputs + outputs) for each adapted linear layer (Hu et al. 2021)."""
        return self.layers * rank * sum(sum(self.linears[name]) for name in targets if name in self.linears)


@cache
def known_shapes() -> dict[str, ModelShape]:
    """The shapes that come with the package, by the base model's name."""
    text = (resources.files("koala_ray.plan") / "models.yaml").read_text(encoding="utf-8")
    return {name: ModelShape(name=name, **values) for name, values in yaml.safe_load(text).items()}


def shape_of(base: str) -> ModelShape:
    """The shape of a recipe's base model: one that is known here, or from its ``config.json``; nothing is downloaded.

    Raises:
        KoalaError: neither is at hand, or the model is not of Llama's kind.
    """
    known = known_shapes()
    if base in known:
        return known[base]
    config = _read_config(base)
    if config is None:
        raise KoalaError(
            "the plan doesn't know this model's shape, and no config.json of it is here",
            where=f"model.base {base}",
            mend=f"give the model's folder, or one of {', '.join(known)}",
        )
    return _from_config(base, config)


def _read_config(base: str) -> Mapping[str, Any] | None:
    folder = base if storage.is_remote(base) else str(Path(base).expanduser())
    for place in (storage.join(folder, TRAINED, "config.json"), storage.join(folder, "config.json")):
        if storage.exists(place):
            return dict(json.loads(storage.read_bytes(place)))
    if base.count("/") != 1 or storage.is_remote(base):
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(base, "config.json")
    return dict(json.loads(Path(cached).read_bytes())) if isinstance(cached, str) else None


def _from_config(base: str, config: Mapping[str, Any]) -> ModelShape:
    kind = config.get("model_type", "unknown")
    if kind not in GATED:
        raise KoalaError(
            f"the plan has no formulas for models of type {kind!r}",
            where=f"model.base {base}",
            mend=f"plan with a model of one of these types: {', '.join(GATED)}",
        )
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    return ModelShape(
        name=base,
        hidden=hidden,
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        key_value_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or hidden // heads,
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
    )
