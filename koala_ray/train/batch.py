"""Packed rows → what the model is called with: one flat sequence, positions that restart, learnt targets."""

from __future__ import annotations

from dataclasses import dataclass

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
    ids: list[int] = []
    learn: list[bool] = []
    lengths: list[int] = []
    for row in rows.select(["input_ids", "learn", "lengths"]).to_pylist():
        ids += row["input_ids"] or [0]
        learn += row["learn"] or [False]
        lengths += row["lengths"] or [1]
    ids_tensor = torch.tensor(ids, dtype=torch.long)
    learnt = torch.tensor(learn, dtype=torch.bool).nonzero()[:, 0]
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    if torch.isin(learnt, starts).any():
        raise ValueError("the first token of a dialogue can't be learnt")
    position_ids = torch.cat([torch.arange(length) for length in lengths])
    return MicroBatch(
        input_ids=ids_tensor[None],
        position_ids=position_ids[None],
        dialogue_lengths=tuple(lengths),
        predictors=learnt - 1,
        targets=ids_tensor[learnt],
    )
