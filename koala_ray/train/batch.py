"""Packed rows → what the model is called with: one flat sequence, positions that restart, learnt targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch


@dataclass(frozen=True)
class MicroBatch:
    """Some packed rows laid end to end, without padding."""

    input_ids: torch.Tensor
    """(1, tokens)"""
    position_ids: torch.Tensor
    """(1, tokens): each dialogue counts from 0."""
    dialogue_lengths: tuple[int, ...]
    """Tokens of each dialogue; they sum to ``tokens``."""
    predictors: torch.Tensor
    """(learnt,): the places whose next token is learnt."""
    targets: torch.Tensor
    """(learnt,): those next tokens."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        return MicroBatch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.dialogue_lengths,
            self.predictors.to(device),
            self.targets.to(device),
        )


def micro_batch(rows: pa.Table) -> MicroBatch:
    """The micro-batch of a table of packed rows.

    A row without tokens (weight zero: it fills up the last global batch) stands as one token that nothing
    learns from, since every worker must run the model equally often.

    Raises:
        ValueError: a dialogue's first token is to be learnt; nothing stands before it to predict it.
    """
    ids, learn, lengths = (flat_column(rows, name) for name in ("input_ids", "learn", "lengths"))
    tokens, dialogues = (row_sizes(rows, name) for name in ("input_ids", "lengths"))
    empty = tokens == 0
    if empty.any():
        # An empty row's place is where the row before it ends.
        ids, learn = (np.insert(values, tokens.cumsum()[empty], 0) for values in (ids, learn))
        lengths = np.insert(lengths, dialogues.cumsum()[empty], 1)
    starts = lengths.cumsum() - lengths
    if learn[starts].any():
        raise ValueError("the first token of a dialogue can't be learnt")
    learnt = torch.from_numpy(learn.nonzero()[0])
    input_ids = torch.from_numpy(ids.astype(np.int64))
    return MicroBatch(
        input_ids=input_ids[None],
        position_ids=torch.from_numpy(np.arange(len(ids)) - starts.repeat(lengths))[None],
        dialogue_lengths=tuple(lengths.tolist()),
        predictors=learnt - 1,
        targets=input_ids[learnt],
    )


def flat_column(rows: pa.Table, name: str) -> np.ndarray:
    """A list column's values, those of all rows end to end."""
    return rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)


def row_sizes(rows: pa.Table, name: str) -> np.ndarray:
    """How many values each row's list holds."""
    return rows[name].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
