"""A low-rank adapter (LoRA) by itself, as peft writes one: what it says of itself, and what it is refused for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.models import files

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RECIPE = "recipe.yaml"
"""What the adapter was trained by, where somebody has put it beside."""


@dataclass(frozen=True)
class Adapter:
    """An adapter that may be merged into its base model."""

    place: str
    """As people know it: a folder, a URI or a Hugging Face id."""
    base: str
    """The base model, by the name that the adapter was trained with."""
    revision: str | None
    """The base's version on Hugging Face, if it is to be a certain one."""

    @property
    def config(self) -> str:
        """Where the base is named."""
        return storage.join(self.place, CONFIG)

    @property
    def another_base(self) -> str:
        """How another base is named."""
        return f"write the base's place as base_model_name_or_path into {self.config}"


def is_adapter(folder: str) -> bool:
    """Whether a folder, or what is below a URI, is an adapter by itself."""
    return storage.exists(storage.join(folder, CONFIG))


def read_adapter(folder: str, place: str) -> Adapter:
    """Read what an adapter says of itself.

    Args:
        folder: where its files are, or a URI.
        place: how people know it.

    Raises:
        KoalaError: it is another kind of adapter, names no base model, or lacks its weights; or a whole model is in
            the same folder.
    """
    uri = storage.join(folder, CONFIG)
    try:
        config = json.loads(storage.read_bytes(uri))
        adapter = Adapter(place, config.get("base_model_name_or_path") or "", config.get("revision"))
    except (ValueError, AttributeError) as error:
        raise KoalaError(
            f"the adapter's settings can't be read: {error}",
            where=storage.join(place, CONFIG),
            mend="save the adapter again with peft",
        ) from error
    _check_kind(adapter, config)
    _check_files(adapter, folder)
    if not adapter.base:
        raise KoalaError("the adapter names no base model", where=adapter.config, mend=adapter.another_base)
    return adapter


def _check_kind(adapter: Adapter, config: dict[str, Any]) -> None:
    kind, task = config.get("peft_type"), config.get("task_type")
    if kind != "LORA":
        raise KoalaError(
            f"this adapter is of peft's kind {kind}: only LORA is merged",
            where=adapter.config,
            mend="give a LoRA adapter, or a whole model",
        )
    if task not in (None, "CAUSAL_LM"):
        raise KoalaError(
            f"this adapter was trained for {task}, and not to generate text (CAUSAL_LM)",
            where=adapter.config,
            mend="give an adapter of a causal language model",
        )


def _check_files(adapter: Adapter, folder: str) -> None:
    if not storage.exists(storage.join(folder, WEIGHTS)):
        raise KoalaError(
            f"the adapter's weights are not there ({WEIGHTS})",
            where=adapter.place,
            mend="save the adapter with peft's save_pretrained, which writes them; an adapter_model.bin is not read",
        )
    if any(storage.exists(storage.join(folder, name)) for name in files.WEIGHTS):
        raise KoalaError(
            "an adapter and a whole model are in the same folder: which one is meant?",
            where=adapter.place,
            mend=f"move {CONFIG} and {WEIGHTS} to a folder of their own, or remove them if they are merged already",
        )


def files_read(folder: Path) -> list[Path]:
    """The files of an adapter's local folder that its merged model depends on."""
    others = [path for path in (folder / RECIPE,) if path.exists()]
    return [folder / CONFIG, folder / WEIGHTS, *files.tokenizer_files(folder), *others]
