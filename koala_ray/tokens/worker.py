"""What Ray Data's tasks do in the token step: a group of curated examples → rendered, masked dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from koala_ray.mixture import condition, copies
from koala_ray.recipe import DataSettings, TokenSettings
from koala_ray.records import Example, Turn
from koala_ray.tables import read_examples, read_group
from koala_ray.tokens.long import exchange_lengths, opening_tokens, split
from koala_ray.tokens.template import Rendered, fit, render
from koala_ray.tokens.tokenizer import Tokenizer

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("split", pa.string()),
        ("piece", pa.int32()),
        ("note", pa.string()),
        ("copies", pa.int32()),
        ("group", pa.string()),
        ("learnt", pa.int32()),
        ("ids", pa.list_(pa.int32())),
        ("learn", pa.list_(pa.bool_())),
        ("filter", pa.string()),
        ("reason", pa.string()),
    ]
)
"""A dialogue, or one piece of a split one (``piece`` from 0), or, where ``filter`` is set, a row left out.

``note`` says on piece 0 whether the row was ``cut`` or ``split``; ``group`` is that of :func:`group_of`."""
TOO_LONG = "longer than the context"


def tokenize_group(task: dict[str, Any], base: str, tokens: TokenSettings, data: DataSettings) -> pa.Table:
    """One row group of examples → the dialogues that are packed, in order, as a table of :data:`SCHEMA`."""
    table = read_group(str(task["uri"][0]), int(task["group"][0]))
    return tokenize_examples(read_examples(table), _tokenizer(base), tokens, data)


@lru_cache(maxsize=1)
def _tokenizer(base: str) -> Tokenizer:
    """The tokenizer, loaded once in each of Ray's processes."""
    return Tokenizer.load(base)


def tokenize_examples(
    examples: Sequence[Example], tokenizer: Tokenizer, tokens: TokenSettings, data: DataSettings
) -> pa.Table:
    """Examples under the mixture's markers, rendered and fitted to the context, as a table of :data:`SCHEMA`."""
    out = _Columns()
    chosen: list[tuple[Example, int]] = []
    conditioned: list[tuple[Turn, ...]] = []
    for example in examples:
        times = copies(example.source, example.pair, data) if example.split == "train" else 1
        turns = condition(example.turns, data)
        if not turns:
            out.reject(example, "mixture", "the worse side of a comparison")
        elif not times:
            out.reject(example, "mixture", "not drawn (data.repeats)")
        else:
            chosen.append((example, times))
            conditioned.append(turns)
    known: dict[str, list[int]] = {}
    rendered = render(conditioned, tokenizer, known)
    for (example, times), turns, whole in zip(chosen, conditioned, rendered, strict=True):
        pieces, note = _fitted(turns, whole, tokenizer, tokens, known)
        if pieces:
            out.keep(example, pieces, times, group_of(example.source, turns), note)
        else:
            out.reject(example, "length", note)
    return out.table()


def group_of(source: str, turns: Sequence[Turn]) -> str:
    """What a dialogue's loss is reported under: its source and the marker of its learnt answers."""
    marker = next((turn.marker for turn in reversed(turns) if turn.learn), "none")
    return f"{source}/{marker}"


def _fitted(
    turns: tuple[Turn, ...],
    whole: Rendered,
    tokenizer: Tokenizer,
    tokens: TokenSettings,
    known: dict[str, list[int]],
) -> tuple[list[Rendered], str]:
    """A dialogue as what fits the context: the pieces and what was done, or no piece and why."""
    if len(whole.ids) <= tokens.context or tokens.long_dialogues == "cut":
        kept, note = fit(whole, tokens.context)
        return ([kept], note) if kept else ([], note)
    if tokens.long_dialogues == "drop":
        return [], TOO_LONG
    opening = _opening_tokens(tokenizer)
    parts = split(turns, exchange_lengths(whole.ends, opening), opening, tokens.context)
    fitted = [kept for piece in render(parts, tokenizer, known) if (kept := fit(piece, tokens.context)[0])]
    if not fitted:
        return [], TOO_LONG
    return fitted, "split" if len(fitted) > 1 else "cut"


_opening_tokens = lru_cache(maxsize=1)(opening_tokens)


class _Columns:
    """The table under way, column by column; ids and masks as flat runs."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names if name not in ("ids", "learn")}
        self._ids: list[list[int]] = []
        self._learn: list[list[bool]] = []

    def keep(self, example: Example, pieces: Sequence[Rendered], times: int, group: str, note: str) -> None:
        for number, piece in enumerate(pieces):
            name = f"{example.id}~{number}" if len(pieces) > 1 else example.id
            values = {"id": name, "piece": number, "note": "" if number else note, "copies": times, "group": group}
            self._put(example, piece.ids, piece.learn, values | {"learnt": piece.learnt})

    def reject(self, example: Example, by: str, reason: str) -> None:
        self._put(example, [], [], {"id": example.id, "filter": by, "reason": reason})

    def _put(self, example: Example, ids: list[int], learn: list[bool], values: dict[str, Any]) -> None:
        values |= {"source": example.source, "file": example.file, "line": example.line, "split": example.split}
        for name, column in self._rows.items():
            column.append(values.get(name))
        self._ids.append(ids)
        self._learn.append(learn)

    def table(self) -> pa.Table:
        offsets = np.cumsum([0, *map(len, self._ids)], dtype=np.int32)
        count = int(offsets[-1])
        ids = np.fromiter(chain.from_iterable(self._ids), np.int32, count)
        learn = np.fromiter(chain.from_iterable(self._learn), bool, count)
        lists = {
            name: pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
            for name, values in (("ids", ids), ("learn", learn))
        }
        return pa.table(self._rows | lists, schema=SCHEMA)
