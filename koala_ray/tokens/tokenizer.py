"""The tokenizer of a base model, reduced to what rendering needs: texts to ids and back, and the two borders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from koala_ray.errors import KoalaError
from koala_ray.models.files import SENTENCEPIECE
from koala_ray.models.resolve import resolve


class Backend(Protocol):
    """What a tokenizer library must give."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids, nothing added, and nothing in a text taken for a special token."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""

    def piece(self, token: int) -> str:
        """How an id is spelled in the vocabulary."""

    @property
    def size(self) -> int:
        """How many ids there are."""

    def definition(self) -> bytes:
        """All that the ids depend on."""


class FastBackend:
    """Hugging Face's ``tokenizers``: what most models publish, as ``tokenizer.json``."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        if threads := _task_threads():
            os.environ.setdefault("RAYON_NUM_THREADS", str(threads))  # read when the first batch is encoded
        # Without this, a user who types the end-of-sequence token ends a turn.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids, on all cores at once."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def piece(self, token: int) -> str:
        """How an id is spelled in the vocabulary."""
        return self._tokenizer.id_to_token(token) or f"<{token}>"

    @property
    def size(self) -> int:
        """How many ids there are, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def definition(self) -> bytes:
        """``tokenizer.json``."""
        return str(self._tokenizer.to_str()).encode()


def _task_threads() -> int:
    """How many threads this process should use: Ray says so to a task by this variable; 0 where nobody does."""
    return int(os.environ.get("OMP_NUM_THREADS") or 0)


class SentencePieceBackend:
    """SentencePiece itself, where a model publishes ``tokenizer.model``, as LLaMA does.

    It is what the model was pre-trained with and what Koala used. Conversions to ``tokenizers`` differ from it in
    runs of spaces: transformers 5.23 orders the merges by id, not by score.
    """

    def __init__(self, path: str) -> None:
        from sentencepiece import SentencePieceProcessor

        self._path = path
        self._threads = _task_threads() or -1
        self._processor = SentencePieceProcessor(model_file=path)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids, on all cores at once."""
        return list(self._processor.encode(list(texts), num_threads=self._threads))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens have none."""
        return str(self._processor.decode([int(token) for token in ids]))

    def piece(self, token: int) -> str:
        """How an id is spelled in the vocabulary."""
        return str(self._processor.id_to_piece(token))

    @property
    def size(self) -> int:
        """How many ids there are."""
        return int(self._processor.vocab_size())

    def definition(self) -> bytes:
        """The model file."""
        return Path(self._path).read_bytes()


class Tokenizer:
    """Texts to ids and back, with the ids that open a dialogue and end an answer."""

    def __init__(self, backend: Backend, bos_id: int | None, eos_id: int) -> None:
        self._backend = backend
        self.bos_id = bos_id
        """The id that opens a text, where the model's own tokenizer puts one."""
        self.eos_id = eos_id
        """The id that ends an answer."""
        self.encode = backend.encode
        self.decode = backend.decode
        self.piece = backend.piece
        self.size = backend.size

    @classmethod
    def load(cls, base: str) -> Tokenizer:
        """The tokenizer of a base model (see :func:`koala_ray.models.resolve.resolve`).

        Raises:
            KoalaError: it can't be loaded, needs a package that isn't installed, has no fast version, or has no
                end-of-sequence token.
        """
        from transformers import AutoTokenizer

        folder = resolve(base)
        try:
            loaded: Any = AutoTokenizer.from_pretrained(folder)
        except ImportError as error:  # a module's name is not always its package's: the error says which to install
            raise KoalaError(
                "the base model's tokenizer needs a package that isn't installed",
                where=folder,
                mend=" ".join(str(error).split()) or f"pip install {error.name}",
            ) from error
        except (OSError, ValueError) as error:
            raise KoalaError(
                "the base model's tokenizer can't be loaded", where=folder, mend=str(error).splitlines()[0]
            ) from error
        if loaded.eos_token_id is None:
            raise KoalaError("the tokenizer has no end-of-sequence token", where=folder, mend="set its eos_token")
        opens = loaded("").input_ids[:1] == [loaded.bos_token_id]
        return cls(_backend(folder, loaded), loaded.bos_token_id if opens else None, loaded.eos_token_id)

    def fingerprint(self) -> str:
        """sha256 over the tokenizer's whole definition and its borders."""
        return hashlib.sha256(self._backend.definition() + f"|{self.bos_id}|{self.eos_id}".encode()).hexdigest()


def _backend(folder: str, loaded: Any) -> Backend:
    model = Path(folder) / SENTENCEPIECE
    if model.is_file():
        try:
            return SentencePieceBackend(str(model))
        except (OSError, RuntimeError):
            pass  # another library's file by the same name (tiktoken's): transformers has converted it
    fast = getattr(loaded, "backend_tokenizer", None)
    if fast is None:
        raise KoalaError("the tokenizer has no fast version", where=folder, mend="convert it to tokenizer.json")
    return FastBackend(fast)
