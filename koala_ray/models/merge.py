"""A low-rank adapter and its base model → one whole model: ``W + scaling · B·A`` in each adapted layer, by peft."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.home import built_beside
from koala_ray.models import files
from koala_ray.models.adapter import CONFIG, RECIPE, WEIGHTS, Adapter
from koala_ray.progress import say
from koala_ray.quiet import quiet_transformers

VERSION = 1
"""Raised when what is merged comes out otherwise than before, so that no old cache is used."""
ORIGIN = ".merged.json"
"""Where the merged model comes from. A hidden file is none of the model's: its hash is that of the weights."""
OUTER = "base_model.model."
"""What peft puts before the names of the base's layers."""


def merge(adapter: Adapter, folder: Path, base: Path, into: Path) -> None:
    """Write the base model with the adapter in its weights, and the tokenizer, as a Hugging Face folder.

    The sum is taken in float32 and stored in the base's own precision, which is what training exports and what an
    engine on GPUs would round to. What rounding to bfloat16 costs was measured: docs/generation.md.

    Args:
        adapter: what the adapter says of itself.
        folder: where its files are.
        base: the base model's folder.
        into: the folder to write; it appears whole.

    Raises:
        KoalaError: the adapter doesn't fit the base model, or is of a kind that can't be merged.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    say(f"model     merging the adapter {adapter.place} into {adapter.base}, once")
    quiet_transformers()
    config = AutoConfig.from_pretrained(base)
    if getattr(config, "quantization_config", None):
        raise KoalaError(
            "the adapter's base model is quantized: its weights can't be added to",
            where=adapter.base,
            mend=f"{adapter.another_base}: the model that isn't quantized",
        )
    with built_beside(into) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft warns of is refused or seen to here
        network: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        tied = network.get_input_embeddings().weight is _weight(network.get_output_embeddings())
        adapted = _load(network, adapter, folder)
        if tied:
            _untie(adapted.get_base_model())
        network = _merged(adapted, adapter)
        if tied:
            _tie_if_equal(network)
        network.to(config.dtype or torch.float32).save_pretrained(part)
        _copy_tokenizer(adapter, folder, base, part, network.get_input_embeddings().weight.shape[0])
        recipe = folder / RECIPE
        origin = {
            "adapter": adapter.place,
            "base": adapter.base,
            "recipe": recipe.read_text(encoding="utf-8") if recipe.exists() else None,
        }
        (part / ORIGIN).write_text(json.dumps(origin, ensure_ascii=False))


def _load(network: Any, adapter: Adapter, folder: Path) -> Any:
    """The base model with the adapter beside its layers, each of the adapter's weights in its place."""
    from peft import LoraConfig, get_peft_model
    from safetensors import SafetensorError

    _refuse_unknown_settings(adapter, folder)
    try:
        _resize(network, _shapes(folder), adapter)
        adapted = get_peft_model(network, LoraConfig.from_pretrained(str(folder)))
        found = adapted.load_adapter(str(folder), "default", torch_device="cpu")
    except SafetensorError as error:
        raise KoalaError(
            f"the adapter's weights can't be read: {error}", where=adapter.place, mend="copy or save it again"
        ) from error
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        raise _unfit(adapter, _reason(error)) from error
    if unplaced := found.unexpected_keys:
        layer = unplaced[0].removeprefix(OUTER)
        raise _unfit(adapter, f"{len(unplaced)} of its weights have no place there, such as {layer}")
    if lacking := found.missing_keys:
        layer = lacking[0].removeprefix(OUTER)
        raise KoalaError(
            f"the adapter lacks {len(lacking)} of the weights that its settings ask for, such as {layer}",
            where=adapter.place,
            mend="save it again with peft's save_pretrained, from a process that holds all of its weights",
        )
    return adapted


def _refuse_unknown_settings(adapter: Adapter, folder: Path) -> None:
    """A later peft's settings may mean another sum; this one would pass over them with a warning."""
    from peft import LoraConfig, __version__

    config = json.loads((folder / CONFIG).read_bytes())
    known = {*LoraConfig.__dataclass_fields__, "peft_version"}
    unknown = [name for name, value in config.items() if value and name not in known]
    if unknown:
        raise KoalaError(
            f"peft {__version__} doesn't know the adapter's setting {', '.join(sorted(unknown))}",
            where=adapter.config,
            mend=f"pip install -U peft (the adapter is from {config.get('peft_version', 'another version')})",
        )


def _shapes(folder: Path) -> dict[str, list[int]]:
    """The shapes of an adapter's weights."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as opened:
        return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118


def _resize(network: Any, shapes: dict[str, list[int]], adapter: Adapter) -> None:
    """Give the base as many tokens as the adapter was trained with; peft stores its embeddings whole in that case."""
    names = {module: name for name, module in network.named_modules()}
    layers = [layer for layer in (network.get_input_embeddings(), network.get_output_embeddings()) if layer is not None]
    stored = []
    for layer in layers:
        prefix = f"{OUTER}{names[layer]}."
        stored += [
            shape[0]
            for name, shape in shapes.items()
            if name.startswith(prefix) and name.endswith("weight") and ".lora_" not in name
        ]
    tokens = layers[0].weight.shape[0]
    if not stored or set(stored) == {tokens}:
        return
    one = layers[0].weight is layers[-1].weight
    if len(set(stored)) > 1 or (len(stored) < len(layers) and not one):
        raise _unfit(adapter, f"its embeddings and its head have {stored} tokens, the base model {tokens}")
    network.resize_token_embeddings(stored[0], mean_resizing=False)


def _weight(layer: Any) -> Any:
    """The weight below what peft has put around a layer; None without a layer."""
    inner = getattr(layer, "base_layer", getattr(layer, "original_module", layer))
    return getattr(inner, "weight", None)


def _untie(network: Any) -> None:
    """Give the head a copy of the embedding: what is merged into one of two that are one would be in both."""
    import torch

    head = network.get_output_embeddings()
    inner = getattr(head, "base_layer", getattr(head, "original_module", head))
    if inner.weight is _weight(network.get_input_embeddings()):
        inner.weight = torch.nn.Parameter(inner.weight.detach().clone())


def _tie_if_equal(network: Any) -> None:
    """Make embedding and head one again where the adapter left them equal, or have both stored."""
    import torch

    embedding, head = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    network.config.tie_word_embeddings = torch.equal(embedding, head)
    network.tie_weights()


def _merged(adapted: Any, adapter: Adapter) -> Any:
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, NotImplementedError) as error:  # not finite; no layer's weight can stand for it
        raise KoalaError(
            f"the adapter can't be merged: {_reason(error)}",
            where=adapter.place,
            mend="give an adapter of a kind that merges (LoRA, rsLoRA, DoRA) with finite weights",
        ) from error


def _copy_tokenizer(adapter: Adapter, folder: Path, base: Path, into: Path, tokens: int) -> None:
    """The adapter's own tokenizer if it brings one, else the base's."""
    own = any((folder / name).exists() for name in files.VOCABULARIES)
    for file in files.tokenizer_files(folder if own else base):
        shutil.copy(file, into)
    if own and (into / "tokenizer.json").exists():
        from tokenizers import Tokenizer

        last = max(Tokenizer.from_file(str(into / "tokenizer.json")).get_vocab(with_added_tokens=True).values())
        if last >= tokens:
            raise KoalaError(
                f"the adapter's tokenizer has ids up to {last:,}, its model only {tokens:,} tokens",
                where=adapter.place,
                mend="save the adapter with its embeddings (save_embedding_layers=True), or leave out its tokenizer",
            )


def _unfit(adapter: Adapter, reason: str) -> KoalaError:
    return KoalaError(
        f"the adapter doesn't fit its base model {adapter.base}: {reason}",
        where=adapter.place,
        mend=f"if it was trained on another model, {adapter.another_base}",
    )


def _reason(error: Exception) -> str:
    """What peft or torch say, in a line: of many shapes that don't fit, the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("size mismatch")), lines[0] if lines else repr(error))
