"""The DeepSpeed engine of a recipe: model, optimizer, and DeepSpeed's settings."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from koala_ray.models.resolve import resolve
from koala_ray.recipe import TrainSettings
from koala_ray.train.attention import NAME as ISOLATED
from koala_ray.train.attention import require_isolated

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_model(base: str, settings: TrainSettings) -> PreTrainedModel:
    """The base model, with isolated attention, ready to train.

    Raises:
        KoalaError: there is no such model, or it can't keep packed dialogues apart.
    """
    model = AutoModelForCausalLM.from_pretrained(
        resolve(base), dtype=DTYPES[settings.precision], attn_implementation=ISOLATED
    )
    require_isolated(model)
    model.config.use_cache = False
    if settings.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def deepspeed_config(settings: TrainSettings) -> dict[str, Any]:
    """DeepSpeed's settings for a recipe's.

    ZeRO-0 in float32 has no optimizer wrapper, and DeepSpeed then clips without saying what the norm was: there
    the training loop clips (see :func:`koala_ray.train.loop.take_step`).
    """
    return {
        "train_batch_size": settings.batch_rows,
        "train_micro_batch_size_per_gpu": settings.micro_rows,
        "gradient_accumulation_steps": settings.accumulation,
        "gradient_clipping": 0.0 if settings.zero_stage == 0 else settings.clip,
        "zero_optimization": {"stage": settings.zero_stage, "overlap_comm": settings.gpus_per_worker > 0},
        "bf16": {"enabled": settings.precision == "bfloat16"},
        "steps_per_print": None,
    }


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices with weight decay, vectors (norms, biases) without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_engine(model: PreTrainedModel, settings: TrainSettings) -> Any:
    """The model under DeepSpeed with AdamW; the process group must exist already."""
    import deepspeed
    from deepspeed.ops import __compatible_ops__ as ops

    # DeepSpeed would compile a shared-memory all-reduce for CPUs at first use: 40 s, and a compiler's lock file
    # that a killed worker leaves behind for the next one to wait on for ever. gloo does without.
    ops["deepspeed_shm_comm"] = False
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=deepspeed_config(settings))
    return engine
