"""The loss: summed over learnt tokens, divided by the learnt tokens of the whole global batch.

Frameworks average what each worker and each accumulation step gives; a mean of means weighs a token in a row
with few learnt tokens more than one in a row with many. :func:`backward_scale` undoes their averaging.
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from koala_ray.train.batch import MicroBatch


def learnt_loss_sum(model: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
    """The cross entropy summed over a micro-batch's learnt tokens, in float32; 0 where nothing is learnt.

    The language-model head runs on the predicting places only: logits for other places are never made.
    """
    logits = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        dialogue_lengths=batch.dialogue_lengths,
        logits_to_keep=batch.predictors,
        use_cache=False,
    ).logits[0]
    return cross_entropy(logits.float(), batch.targets, reduction="sum")


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
