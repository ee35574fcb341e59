"""Which settings to change when a run doesn't fit into memory, what each saves, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from koala_ray.plan.hardware import GIGA, assumption
from koala_ray.plan.memory import Footprint, footprint
from koala_ray.plan.shape import ModelShape
from koala_ray.recipe import Recipe

WORTH = 0.05
"""GB below which a change is not worth its line."""
SHORTEST = 512
"""Tokens of context below which dialogues would be cut to pieces."""


def fits(needs: Footprint, memory: float) -> bool:
    """Whether a footprint leaves the stated head-room of a device's memory, in bytes."""
    return needs.peak <= memory * (1 - assumption("headroom").value)


def advise(recipe: Recipe, shape: ModelShape, memory: float, nodes: int = 1) -> list[str]:
    """Changes that save memory, what costs least time first; each counts on those above it.

    They end with the first with which a run fits that didn't; where the plan says that it fits already (and it ran
    out of memory all the same) all changes are given.

    Args:
        recipe: with the workers, and the ZeRO stage, that it runs with.
        shape: the base model's.
        memory: bytes of one device.
        nodes: machines that the workers are spread over.

    Returns:
        Lines such as ``--set train.micro_rows=1  saves 9.6 GB a GPU: 61.3 of 80 GB``.
    """
    needs = footprint(shape, recipe, recipe.train.zero_stage, nodes)
    fitted = fits(needs, memory)
    lines: list[str] = []
    for offered, cost in _changes(recipe):
        settings = {key: value for key, value in offered.items() if value != _value(recipe, key)}
        changed = _with(recipe, settings)
        then = footprint(shape, changed, changed.train.zero_stage, nodes)
        saved = (needs.peak - then.peak) / GIGA
        if saved < WORTH:
            continue
        recipe, needs = changed, then
        ends = not fitted and fits(needs, memory)
        lines.append(
            f"{' '.join(f'--set {key}={str(value).lower()}' for key, value in settings.items())}  "
            f"saves {saved:.1f} GB a worker{cost}: {needs.peak / GIGA:.1f} of {memory / GIGA:.0f} GB"
            + (", which fits" if ends else "")
        )
        if ends:
            break
    return lines


def room_left(recipe: Recipe, shape: ModelShape, memory: float, nodes: int = 1) -> str:
    """A sentence on the memory that is left by the plan, for a run that ran out of it; empty where it doesn't fit.

    Args:
        recipe: as for :func:`advise`.
        shape: the base model's.
        memory: bytes of one device.
        nodes: machines that the workers are spread over.
    """
    needs = footprint(shape, recipe, recipe.train.zero_stage, nodes)
    if not fits(needs, memory):
        return ""
    spare = (memory - needs.peak) / GIGA
    return f"the plan says it fits with {spare:.1f} GB to spare: see first whether something else takes that memory"


def _changes(recipe: Recipe) -> Iterator[tuple[dict[str, Any], str]]:
    """Settings with their values, also those that they need, and what they cost; offloading only from GPUs.

    Adapters are not trained under ZeRO-3 (:mod:`koala_ray.train.check`), which alone offloads weights.
    """
    train, adapters = recipe.train, recipe.lora.rank > 0
    rows, stage = train.micro_rows, int(train.zero_stage)
    while rows > 1:
        rows = max(part for part in range(1, rows) if rows % part == 0)
        yield {"train.micro_rows": rows}, ""
    while train.workers > 1 and stage < (2 if adapters else 3):
        stage += 1
        yield {"train.zero_stage": stage}, " (more exchange)"
    if not train.activation_checkpointing:
        yield {"train.activation_checkpointing": True}, " (a third more FLOPs)"
    if train.loss_chunk > 128:
        yield {"train.loss_chunk": 128}, ""
    if train.gpus_per_worker and not train.offload_optimizer:
        # One worker shards nothing, but only ZeRO 2 and 3 keep gradients with an offloaded optimizer.
        stage = max(stage, 2)
        yield {"train.zero_stage": stage, "train.offload_optimizer": True}, " (a slower step)"
    if train.gpus_per_worker and not train.offload_weights and not adapters:
        stage = 3
        yield {"train.zero_stage": stage, "train.offload_weights": True}, " (much slower)"
    context = recipe.tokens.context
    while context // 2 >= SHORTEST:
        context //= 2
        yield {"tokens.context": context}, " (data is packed anew)"
    if not adapters:
        changes = {"lora.rank": 16, "train.zero_stage": min(stage, 2), "train.offload_weights": False}
        yield changes, " (adapters in place of all weights)"


def _value(recipe: Recipe, key: str) -> Any:
    part, name = key.split(".")
    return getattr(getattr(recipe, part), name)


def _with(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    for key, value in settings.items():
        part, name = key.split(".")
        changed = getattr(recipe, part).model_copy(update={name: value})
        recipe = recipe.model_copy(update={part: changed})
    return recipe
