"""The tokenizer of a base model, reduced to what rendering needs: texts to ids and back, and the two borders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.models.resolve import resolve


class Tokenizer:
    """Texts to ids with nothing added, and nothing in a text taken for a special token.

    A user who types ``</s>`` has typed four characters: his text can't end a turn.
    """

    def __init__(self, backend: Any, bos_id: int | None, eos_id: int) -> None:
        # tokenizers.Tokenizer; it has no public type for an encoding's ids.
        self._backend = backend
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self.bos_id = bos_id
        """The id that opens a text, where the model's own tokenizer puts one."""
        self.eos_id = eos_id
        """The id that ends an answer."""

    @classmethod
    def load(cls, base: str) -> Tokenizer:
        """The tokenizer of a base model (see :func:`koala_ray.models.resolve.resolve`).

        Raises:
            KoalaError: the model has no tokenizer that renders can be made with.
        """
        from transformers import AutoTokenizer

        folder = resolve(base)
        try:
            loaded = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise KoalaError(
                "the base model's tokenizer can't be loaded", where=folder, mend=str(error).splitlines()[0]
            ) from error
        return cls.of(loaded, where=folder)

    @classmethod
    def of(cls, loaded: Any, where: str = "") -> Tokenizer:
        """Wrap a tokenizer of transformers.

        Raises:
            KoalaError: it has no end-of-sequence token, or isn't a fast tokenizer.
        """
        backend = getattr(loaded, "backend_tokenizer", None)
        if backend is None:
            raise KoalaError(
                "the tokenizer has no fast version", where=where, mend="convert it to tokenizer.json"
            )
        if loaded.eos_token_id is None:
            raise KoalaError("the tokenizer has no end-of-sequence token", where=where, mend="set eos_token")
        opens = loaded("").input_ids[:1] == [loaded.bos_token_id]
        return cls(backend, loaded.bos_token_id if opens else None, loaded.eos_token_id)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids, on all cores at once."""
        return [
            encoding.ids
            for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's ids; special tokens are left out."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def piece(self, token: int) -> str:
        """How one id is spelled in the vocabulary, for people."""
        return self._backend.id_to_token(token) or f"<{token}>"

    @property
    def size(self) -> int:
        """How many ids there are, added tokens included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def fingerprint(self) -> str:
        """sha256 over the tokenizer's whole definition and its borders."""
        text = f"{self._backend.to_str()}|{self.bos_id}|{self.eos_id}"
        return hashlib.sha256(text.encode()).hexdigest()


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that make up a saved tokenizer."""
    names = (
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    )
    return [folder / name for name in names if (folder / name).exists()]
