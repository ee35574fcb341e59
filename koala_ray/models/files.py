"""The files of a Hugging Face model's folder, by name."""

from __future__ import annotations

from pathlib import Path

SENTENCEPIECE = "tokenizer.model"
VOCABULARIES = ("tokenizer.json", SENTENCEPIECE, "vocab.json")
"""Each makes a tokenizer by itself (the last one with ``merges.txt``)."""
TOKENIZER = (
    *VOCABULARIES,
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""The files that make up a saved tokenizer."""
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""One of these is in the folder of a whole model."""


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a saved tokenizer that are there."""
    return [folder / name for name in TOKENIZER if (folder / name).exists()]
