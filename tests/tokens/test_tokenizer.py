"""Tokenizers that can't be loaded are refused, each with its mend."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from koala_ray.errors import KoalaError
from koala_ray.tokens.tokenizer import Tokenizer


def model_with(folder: Path, **tokenizer: str) -> str:
    """A model's folder with a small vocabulary and this ``tokenizer_config.json``."""
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 4}))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "vocab.txt").write_text("[UNK]\na\nb\n")
    return str(folder)


def test_a_tokenizer_whose_package_is_missing_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fugashi", None)  # how Python notes a module that can't be imported
    folder = model_with(tmp_path, tokenizer_class="BertJapaneseTokenizer", word_tokenizer_type="mecab")
    with pytest.raises(KoalaError) as refused:
        Tokenizer.load(folder)
    assert "needs a package that isn't installed" in refused.value.error
    assert refused.value.where == folder
    assert "fugashi" in refused.value.mend
    assert "\n" not in refused.value.mend


def test_a_tokenizer_that_ends_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KoalaError, match="no end-of-sequence token"):
        Tokenizer.load(model_with(tmp_path, tokenizer_class="BertTokenizer"))
