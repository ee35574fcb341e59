"""What a worker holds of the training state: slices of the float32 weights and of AdamW's two moments.

DeepSpeed cuts the state among the workers in one way for each ZeRO stage: whole weights, or float32 copies of them
where they are in bfloat16 (0), pieces of a flat tensor of all weights of a group (1, 2), or a piece of each weight (3).
Here every way is the same thing, a list of slices of named weights, so that what was written under one stage and number
of workers is read under any other. DeepSpeed's own way there is a conversion of the whole checkpoint by hand
(``ds_to_universal``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist

Kind = Literal["weight", "exp_avg", "exp_avg_sq"]
KINDS: tuple[Kind, ...] = ("weight", "exp_avg", "exp_avg_sq")
"""What is kept of a weight: itself in float32, and AdamW's moments (Loshchilov and Hutter 2019)."""


@dataclass(frozen=True)
class Slice:
    """Elements of one flattened weight that this worker steps."""

    name: str
    """The weight's, as the module names it."""
    start: int
    """The first element's place in the flattened weight."""
    numel: int
    stepped: torch.Tensor
    """The tensor that the optimizer steps; the slice is somewhere in it."""
    offset: int
    """Where the slice begins in that tensor, flattened."""


def held_slices(engine: Any) -> list[Slice]:
    """This worker's slices of all trained weights, in the same order whenever it is asked.

    Args:
        engine: a DeepSpeed engine.
    """
    # Weights that stand in two places of the model (an embedding and a head) have the first one's name.
    names = {id(weight): name for name, weight in engine.module.named_parameters()}
    zero = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        return list(_of_each_weight(zero, names))
    for groups, flats in (("bit16_groups", "single_partition_of_fp32_groups"), ("bf16_groups", FLAT_BF16)):
        if hasattr(zero, flats):
            return list(_of_flat_groups(getattr(zero, groups), getattr(zero, flats), names))
    return [Slice(names[id(weight)], 0, weight.numel(), stepped, 0) for weight, stepped in _whole(zero)]


def _whole(zero: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each weight without ZeRO, and the float32 tensor that is stepped: itself, or a copy beside a bfloat16 one."""
    stepped = [weight for group in zero.param_groups for weight in group["params"]]
    computed = [weight for group in getattr(zero, "fp16_groups", [stepped]) for weight in group]
    return zip(computed, stepped, strict=True)


FLAT_BF16 = "fp32_groups_flat_partition"


def _of_flat_groups(groups: Any, flats: Any, names: dict[int, str]) -> Iterator[Slice]:
    for weights, flat in zip(groups, flats, strict=True):
        for weight in weights:
            held = weight._hp_mapping
            if held is not None:
                here, there = held.lp_fragment_address, held.hp_fragment_address
                yield Slice(names[id(weight)], here.start, here.numel, flat, there.start)


def _of_each_weight(zero: Any, names: dict[int, str]) -> Iterator[Slice]:
    rank = dist.get_rank()
    for weights in zero.fp16_groups:
        for weight in weights:
            group, offset, share = zero.grad_position[zero.get_param_id(weight)]
            start = rank * share
            numel = min(share, weight.ds_numel - start)  # the last worker's share may end in padding
            if numel > 0:
                yield Slice(names[id(weight)], start, numel, zero.fp32_partitioned_groups_flat[group], offset)


def written_slices(engine: Any) -> list[Slice]:
    """The slices that this worker writes: over all workers every element once.

    Where every worker holds everything, they share the writing.
    """
    held = held_slices(engine)
    if engine.zero_optimization_stage():
        return held
    rank, workers = dist.get_rank(), dist.get_world_size()
    total = sum(one.numel for one in held)
    return list(cut(held, total * rank // workers, total * (rank + 1) // workers))


def cut(slices: Sequence[Slice], start: int, end: int) -> Iterator[Slice]:
    """What lies between two places of the slices put end to end."""
    place = 0
    for one in slices:
        first, last = max(start - place, 0), min(end - place, one.numel)
        if first < last:
            yield Slice(one.name, one.start + first, last - first, one.stepped, one.offset + first)
        place += one.numel


def copy_out(engine: Any, slices: Sequence[Slice], into: torch.Tensor) -> None:
    """Copy slices into a buffer on the CPU, one kind after the other.

    Args:
        engine: the DeepSpeed engine.
        slices: what to copy.
        into: (3, elements of all slices), float32.
    """
    state = engine.basic_optimizer.state
    for kind, row in zip(KINDS, into, strict=True):
        place = 0
        for one in slices:
            target = row.narrow(0, place, one.numel)
            source = one.stepped.detach() if kind == "weight" else state[one.stepped].get(kind)
            if source is None:  # no step was ever taken
                target.zero_()
            else:
                target.copy_(source.view(-1).narrow(0, one.offset, one.numel), non_blocking=True)
            place += one.numel
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def optimizer_steps(engine: Any) -> int:
    """The steps that AdamW has taken, by which it corrects its moments; steps that were skipped don't count."""
    state = engine.basic_optimizer.state
    return int(max((one["step"] for one in state.values() if "step" in one), default=0))


def copy_in(engine: Any, steps: int, read: Callable[[Kind, str, int, int], torch.Tensor]) -> None:
    """Set this worker's state, and the model's weights by it; every worker must call it.

    Args:
        engine: the DeepSpeed engine, as it was built.
        steps: see :func:`optimizer_steps`.
        read: gives elements of a kind and weight: (kind, name, first element, count) → (count,).
    """
    held = held_slices(engine)
    state = engine.basic_optimizer.state
    of_torch = isinstance(engine.basic_optimizer, torch.optim.AdamW)
    for stepped in {id(one.stepped): one.stepped for one in held}.values():
        for kind in KINDS[1:]:
            state[stepped][kind] = torch.zeros_like(stepped, requires_grad=False)
        # torch's fused AdamW counts on the device, DeepSpeed's for CPUs in plain numbers.
        state[stepped]["step"] = (
            torch.tensor(float(steps), dtype=torch.float32, device=stepped.device) if of_torch else steps
        )
    for kind in KINDS:
        for one in held:
            target = one.stepped.detach() if kind == "weight" else state[one.stepped][kind]
            target.view(-1).narrow(0, one.offset, one.numel).copy_(read(kind, one.name, one.start, one.numel))
    _update_model(engine)


def _update_model(engine: Any) -> None:
    """Let the weights that the model computes with follow the float32 ones."""
    zero = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        zero.checkpoint_event_prologue()  # small weights are kept whole on every worker: gather them anew
        for group in range(len(zero.fp32_partitioned_groups_flat)):
            zero._reassign_or_swap_out_partitioned_parameters(group)
        zero.checkpoint_event_epilogue()
    elif engine.zero_optimization_stage():
        zero.update_lp_params()
    else:
        for weight, stepped in _whole(zero):
            if weight is not stepped:
                weight.detach().copy_(stepped.detach())
