"""A trained engine → a Hugging Face folder that ``AutoModelForCausalLM.from_pretrained`` loads."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from koala_ray import storage
from koala_ray.models.files import tokenizer_files
from koala_ray.models.resolve import lasting_name, resolve
from koala_ray.quiet import quiet_transformers
from koala_ray.tokens.tokenizer import Tokenizer

ADAPTER = "adapter"
"""The folder inside the model's that holds the low-rank adapters alone, in peft's layout."""
PREFIX = "network."


def export(engine: Any, base: str, uri: str, zero_stage: int) -> None:
    """Write model and tokenizer; every worker must call it, the first one writes. The engine can't train after it.

    Under ZeRO-3 the weights are gathered to the first worker's memory; below it each worker has them all.
    Adapters are merged into the weights, and written by themselves beside them.
    """
    import torch.distributed as dist

    quiet_transformers()
    state = engine._zero3_consolidated_16bit_state_dict() if zero_stage == 3 else None
    if dist.get_rank() == 0:
        with tempfile.TemporaryDirectory(prefix="koala-model-") as temporary:
            write_model(engine.module, base, Path(temporary), _without_prefix(state))
            storage.remove_tree(uri)
            storage.copy_tree(temporary, uri)
    if dist.get_world_size() > 1:
        dist.barrier()


def write_model(model: Any, base: str, folder: Path, state: dict[str, Any] | None = None) -> None:
    """Write a model and its tokenizer into a local folder; it can't be trained after it.

    Args:
        model: a :class:`koala_ray.train.model.DialogueModel`.
        base: the model that it was made from.
        folder: an empty one.
        state: the weights, where the model itself doesn't hold them.
    """
    network = model.causal
    if model.adapted:
        for config in model.network.peft_config.values():
            config.base_model_name_or_path = lasting_name(base)  # peft has noted a place in this machine's cache
        # No tokens are added in training, so the embeddings are the base's; to make sure, peft would ask the hub.
        model.network.save_pretrained(folder / ADAPTER, save_embedding_layers=False)
        network = model.network.merge_and_unload()
    network.config.use_cache = True
    # What the rows end answers with; programs that load the model stop there.
    network.config.eos_token_id = network.generation_config.eos_token_id = Tokenizer.load(base).eos_id
    network.save_pretrained(folder, state_dict=state)
    for file in tokenizer_files(Path(resolve(base))):
        shutil.copy(file, folder)


def _without_prefix(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """The transformers model's part of the whole module's state."""
    if state is None:
        return None
    return {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
