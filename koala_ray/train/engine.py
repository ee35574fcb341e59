"""The DeepSpeed engine of a recipe: its settings, the optimizer, and the model under both."""

from __future__ import annotations

from typing import Any

import torch

from koala_ray.recipe import TrainSettings
from koala_ray.train.model import DialogueModel, talk_through_torch


def deepspeed_config(settings: TrainSettings) -> dict[str, Any]:
    """DeepSpeed's settings for a recipe's.

    ZeRO-0 in float32 has no optimizer wrapper, and DeepSpeed then clips without saying what the norm was: there
    the training loop clips (see :func:`koala_ray.train.loop.take_step`).
    """
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": settings.gpus_per_worker > 0}
    pinned = {"device": "cpu", "pin_memory": settings.gpus_per_worker > 0}
    if settings.offload_optimizer:
        zero["offload_optimizer"] = pinned
    if settings.offload_weights:
        zero["offload_param"] = pinned
    return {
        "train_batch_size": settings.batch_rows,
        "train_micro_batch_size_per_gpu": settings.micro_rows,
        "gradient_accumulation_steps": settings.accumulation,
        "gradient_clipping": 0.0 if clipped_by_the_loop(settings) else settings.clip,
        "zero_optimization": zero,
        "bf16": {"enabled": settings.precision == "bfloat16"},
        "steps_per_print": None,
    }


def clipped_by_the_loop(settings: TrainSettings) -> bool:
    """Whether DeepSpeed leaves the gradient's norm to us."""
    return settings.zero_stage == 0 and settings.precision == "float32"


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices with weight decay, vectors (norms, biases) without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Under ZeRO-3 a parameter is empty here and keeps its shape elsewhere.
    dimensions = [len(getattr(parameter, "ds_shape", parameter.shape)) for parameter in trained]
    matrices = [parameter for parameter, count in zip(trained, dimensions, strict=True) if count > 1]
    vectors = [parameter for parameter, count in zip(trained, dimensions, strict=True) if count <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(model: torch.nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW: torch's fused one, or DeepSpeed's for CPUs where the optimizer is offloaded."""
    groups = parameter_groups(model, settings.weight_decay)
    common: dict[str, Any] = {"lr": settings.lr, "betas": settings.betas, "eps": settings.eps}
    if settings.offload_optimizer:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **common)
    return torch.optim.AdamW(groups, fused=True, **common)


def build_engine(model: DialogueModel, settings: TrainSettings) -> Any:
    """The model under DeepSpeed with AdamW; the process group must exist already."""
    import deepspeed

    talk_through_torch()
    optimizer = build_optimizer(model, settings)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=deepspeed_config(settings))
    if settings.zero_stage == 0 and engine.dp_world_size == 1:
        # It would copy all gradients into buckets and back to average them with nobody's.
        engine.enable_backward_allreduce = False
    return engine
