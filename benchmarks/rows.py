"""Packed rows for the training benchmarks, made without Ray: of real rows, or of the sample corpus where none are.

With real rows the corpus has the mixture's published proportions (see corpus.py), a small part of its size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from bench_pack import read_dialogues
from corpus import make_corpus

from koala_ray.recipe import DataSettings, TokenSettings
from koala_ray.samples import sample_root
from koala_ray.tokens.pack import fill, pack
from koala_ray.tokens.scratch import Scratch
from koala_ray.tokens.shards import write_shards
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.tokens.worker import tokenize_examples

AT_ONCE = 5000
"""Dialogues that are tokenized together."""
BATCHES = (2, 4, 8, 16)
"""Dialogues in a padded batch whose cost is stated."""


@dataclass(frozen=True)
class Rows:
    """Packed rows in a folder, and what dialogues they were made of."""

    folder: str
    """The shards' folder: one epoch, in the pack plan's order."""
    lengths: np.ndarray
    """Tokens of each dialogue."""
    learnt: int
    packs: int
    context: int

    @property
    def tokens(self) -> int:
        """Tokens of all dialogues."""
        return int(self.lengths.sum())

    def padding(self, batch: int) -> float:
        """Places of shuffled batches that are padded to their longest dialogue, for each token in them."""
        shuffled = np.random.default_rng(0).permutation(self.lengths)[: len(self.lengths) // batch * batch]
        batches = shuffled.reshape(-1, batch)
        return float(batches.max(axis=1).sum() * batch / batches.sum())

    def line(self) -> str:
        """The dialogues in a sentence: how long they are, and what padding them would cost."""
        spread = ", ".join(f"{share} % {np.percentile(self.lengths, share):,.0f}" for share in (5, 25, 50, 75, 95))
        padding = ", ".join(f"{batch}: {self.padding(batch):.2f}" for batch in BATCHES)
        return (
            f"{len(self.lengths):,} dialogues of {self.lengths.mean():.0f} tokens (quantiles: {spread}), "
            f"{self.learnt / self.tokens:.0%} learnt, {self.packs:,} packed rows of {self.context} "
            f"({fill(self.lengths.tolist(), self.packs, self.context):.1%} full); "
            f"places a token in padded batches of {padding}"
        )


def make_rows(folder: Path, base: str, context: int, data: Path | None, part: Fraction) -> Rows:
    """Write the packed rows of a corpus.

    Args:
        folder: a fresh folder for them.
        base: the model whose tokenizer is used.
        context: tokens in a row at most.
        data: the folder with real rows; the sample corpus is used without one.
        part: the part of the mixture's published size that is made of the real rows.
    """
    folder.mkdir(parents=True)
    root = Path(sample_root())
    if data is not None:
        root = folder.parent / "corpus"
        make_corpus(root, data, part)
    settings, tokenizer = TokenSettings(context=context), Tokenizer.load(base)
    dialogues = read_dialogues(root)
    with tempfile.TemporaryDirectory(prefix="koala-ray-bench-") as temporary:
        scratch = Scratch(Path(temporary), "train")
        for chunk in _chunks(dialogues):
            table = tokenize_examples(chunk, tokenizer, settings, DataSettings())
            scratch.add(table.filter(pc.is_null(table["filter"])))
        found, _ = scratch.dialogues()
        packs = pack(found.lengths.tolist(), context)
        write_shards(str(folder), found, packs, epochs=1, seed=0)
        return Rows(str(folder), found.lengths.copy(), int(found.learnt.sum()), len(packs), context)


def _chunks(dialogues: Iterator[object]) -> Iterator[list]:
    while chunk := list(islice(dialogues, AT_ONCE)):
        yield chunk
