"""FLOPs of a training step and of devices; the plan and the training meter count alike."""

from __future__ import annotations

import numpy as np

from koala_ray.plan.hardware import Precision, find_device
from koala_ray.plan.shape import ModelShape
from koala_ray.recipe import LoraSettings


def attended_positions(lengths: np.ndarray) -> float:
    """How many positions a token attends to in the mean, over dialogues that are attended to alone and causally.

    Token i of a dialogue attends to i positions, so that a dialogue of s tokens has s(s+1)/2 pairs.

    Args:
        lengths: tokens of each dialogue.
    """
    sizes = np.asarray(lengths, dtype=np.float64)
    return float((sizes * (sizes + 1) / 2).sum() / sizes.sum())


def training_flops(trained: int, frozen: int, layers: int, width: int, attended: float) -> float:
    """FLOPs that training needs for a token, recomputed activations not counted.

    Forward, gradient of the activations and gradient of the weights take 2 FLOPs a parameter each; frozen weights
    need no gradient: 6 · trained + 4 · frozen. Scores and their products with the values take 4 · width FLOPs a
    position attended to and layer in the forward pass, and twice that backward: 12 · layers · width · attended
    (Chowdhery et al. 2022, PaLM, appendix B, who count all of the context as attended to).

    Args:
        trained: parameters that are trained, without an embedding that is only looked up.
        frozen: those that tokens are multiplied with and that aren't trained.
        layers: decoder layers.
        width: of all attention heads together.
        attended: positions that a token attends to in the mean.
    """
    return 6.0 * trained + 4.0 * frozen + 12.0 * layers * width * attended


def flops_per_token(shape: ModelShape, attended: float, lora: LoraSettings | None = None) -> float:
    """FLOPs that training a model, or adapters in it, needs for a token; see :func:`training_flops`.

    The head is counted for every token, though it runs on learnt ones alone: as published figures count it.
    """
    if lora is None or not lora.rank:
        return training_flops(shape.multiplied, 0, shape.layers, shape.attention_width, attended)
    adapters = shape.adapter_parameters(lora.rank, lora.targets)
    return training_flops(adapters, shape.multiplied, shape.layers, shape.attention_width, attended)


def peak_flops(device_name: str, precision: Precision) -> float | None:
    """FLOPs per second that a GPU could do at most, dense; None for a device that the data file doesn't have.

    Args:
        device_name: as the driver calls it, such as ``NVIDIA A100-SXM4-80GB``, or as ``--on`` takes it.
        precision: that of weights and activations.
    """
    device = find_device(device_name)
    return device.peak[precision] if device else None
