"""Memory that ran out, told as settings to change."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from koala_ray.errors import KoalaError
from koala_ray.recipe import Recipe

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "alloc_failed", "running low on memory", "memory pressure")
"""How torch on GPUs, torch on CPUs, cuBLAS and Ray's memory monitor say it, in small letters."""


def explain_oom(error: BaseException, recipe: Recipe, nodes: int = 1) -> KoalaError | None:
    """Which settings to change, from the plan's own numbers, if memory ran out; None if it is another failure.

    Args:
        error: what ended the run, as a worker raised it or as Ray Train wrapped it.
        recipe: what ran.
        nodes: machines that the workers are spread over.
    """
    found = next((cause for cause in _causes(error) if _is_out_of_memory(cause)), None)
    if found is None:
        return None
    told = [line.strip() for line in str(found).splitlines() if any(sign in line.lower() for sign in OUT_OF_MEMORY)]
    try:
        room, changes = _advice(recipe, str(found), nodes)
    except KoalaError:  # the plan doesn't know this model's shape
        room, changes = "", []
    general = "a smaller train.micro_rows, a higher train.zero_stage, train.activation_checkpointing=true"
    listed = "one by one, until it fits:" + "".join(f"\n    {line}" for line in changes) if changes else general
    return KoalaError(
        "memory ran out" + (f": {told[0][:200]}" if told else ""),
        where="a GPU" if recipe.train.gpus_per_worker else "a worker's machine",
        mend=f"{room}; then {listed}" if room else listed,
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it was made of, the innermost first."""
    if error is None:
        return
    inner = [
        getattr(error, name, None) for name in ("cause", "health_check_failure", "controller_failure", "__cause__")
    ]
    for cause in [*getattr(error, "worker_failures", {}).values(), *inner]:
        if isinstance(cause, BaseException):
            yield from _causes(cause)
    yield error


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(sign in text for sign in OUT_OF_MEMORY)
    )


def _advice(recipe: Recipe, text: str, nodes: int) -> tuple[str, list[str]]:
    """The plan's room and advice for as much memory as the error, or on a CPU this machine, says that there is."""
    from koala_ray.plan.advice import advise, room_left
    from koala_ray.plan.shape import shape_of

    shape = shape_of(recipe.model.base)
    if capacity := re.search(r"total capacity of ([\d.]+) GiB", text):
        memory = float(capacity[1]) * 2**30
    elif recipe.train.gpus_per_worker:
        return "", []
    else:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = machine * nodes / recipe.train.workers
    return room_left(recipe, shape, memory, nodes), advise(recipe, shape, memory, nodes)
