"""The loss: summed over learnt tokens, divided by the learnt tokens of the whole global batch.

Frameworks average what each worker and each accumulation step gives; a mean of means weighs a token in a row
with few learnt tokens more than one in a row with many. :func:`backward_scale` undoes their averaging.

Logits are the largest thing that a step could hold: tokens × vocabulary in float32. Here they exist only for
places that are learnt, and for a chunk of those at a time: a chunk's gradient is taken as soon as its loss is
known, so the logits needn't wait for the backward pass, and nothing is computed twice.
"""

from __future__ import annotations

from typing import Any

import torch

from koala_ray.train.linear import product

HEAD_ROWS = 8192
"""Rows of the head whose gradient is taken at a time: what a product gives is added, and has to be somewhere."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The summed cross entropy of a linear head, a chunk of tokens at a time, its gradient taken on the way."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        learns_states, learns_weight = ctx.needs_input_grad[:2]
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        state_grads = torch.empty_like(states) if learns_states else None
        # Over the chunks in float32: bfloat16 would lose what the later ones add.
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if learns_weight else None
        for start in range(0, len(targets), chunk):
            place = slice(start, start + chunk)
            losses, error = _losses_and_error(states[place], weight, targets[place])
            total += losses.sum()
            error = error.to(weight.dtype)
            if state_grads is not None:
                state_grads[place] = product(error, weight.T)
            if weight_grad is not None:
                for part in weight_grad.split(HEAD_ROWS):
                    first = part.storage_offset() // part.shape[1]
                    part += product(error[:, first : first + len(part)].T, states[place].T)
        ctx.grads = state_grads, None if weight_grad is None else weight_grad.to(weight.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        state_grads, weight_grad = ctx.grads
        for grad in ctx.grads:
            if grad is not None:
                grad.mul_(grads[0])
        ctx.grads = None
        return state_grads, weight_grad, None, None


def _losses_and_error(
    states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's cross entropy, and its derivative by the logits (softmax − one-hot), in the logits' own memory."""
    logits = product(states, weight).float()
    highest = logits.amax(dim=1)
    aimed = logits.gather(1, targets[:, None])[:, 0]
    logits.sub_(highest[:, None]).exp_()
    sums = logits.sum(dim=1)
    losses = sums.log() + highest - aimed
    logits.div_(sums[:, None])
    logits[torch.arange(len(targets), device=targets.device), targets] -= 1
    return losses, logits


def summed_loss(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int) -> torch.Tensor:
    """The cross entropy summed over tokens, in float32; 0 without tokens.

    Args:
        states: (tokens, hidden), what the head reads.
        weight: (vocabulary, hidden), the head.
        targets: (tokens,), the ids to be learnt.
        chunk: tokens whose logits are in memory at a time.
    """
    return _ChunkedCrossEntropy.apply(states, weight, targets, chunk)


def liger_summed_loss(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int) -> torch.Tensor:
    """As :func:`summed_loss`, by Liger's Triton kernel, which chooses its own chunks."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    return LigerFusedLinearCrossEntropyLoss(reduction="sum")(weight, states, targets)


@torch.no_grad()
def token_losses(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int) -> torch.Tensor:
    """Each token's cross entropy, in float32, without gradients: (tokens,)."""
    pieces = [
        _losses_and_error(states[start : start + chunk], weight, targets[start : start + chunk])[0]
        for start in range(0, len(targets), chunk)
    ]
    return torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.float32, device=states.device)


def backward_scale(workers: int, accumulation: int, learnt: int) -> float:
    """The factor on a micro-batch's loss sum before DeepSpeed's backward.

    DeepSpeed divides by the accumulation steps and averages gradients over the workers, so that
    sum · workers · accumulation / learnt gives the gradient of (sum over the global batch) / learnt.

    Args:
        workers: the data-parallel world size.
        accumulation: micro-batches per worker and step.
        learnt: learnt tokens in the global batch.
    """
    return workers * accumulation / learnt if learnt else 0.0
