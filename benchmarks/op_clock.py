"""Where a training step's time goes: each operation's processor time, by the part of the step that it belongs to.

On one thread and by the processor's clock, so that it doesn't matter what else the machine does.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import torch
from measure import markdown
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TILE = 32768
"""TRL cuts the vocabulary into tiles of so many pieces."""


class OpClock(TorchDispatchMode):
    """Adds up the seconds of the operations under it."""

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.seconds: dict[str, Any] = {}
        """A counter of the operations' seconds for each part."""
        self._hidden, self._wide = hidden, {vocabulary, TILE, vocabulary % TILE}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.thread_time()
        out = func(*args, **(kwargs or {}))
        taken = time.thread_time() - started
        shapes = [tuple(leaf.shape) for leaf in tree_leaves((args, kwargs, out)) if torch.is_tensor(leaf)]
        name = func.name().removeprefix("aten::").partition(".")[0]
        self.seconds.setdefault(self._part(name, shapes), Counter())[name] += taken
        return out

    def _part(self, name: str, shapes: list[tuple[int, ...]]) -> str:
        product = name in ("mm", "addmm", "addmm_", "bmm") or "linear" in name
        if "adam" in name or "foreach" in name or name in ("linalg_vector_norm", "stack"):
            return "optimizer and clipping"
        if "scaled_dot_product" in name:
            return "attention"
        if any(self._wide & set(shape) for shape in shapes):
            if product:
                return "head: matrix products"
            of_weights = all(set(shape) <= self._wide | {self._hidden} for shape in shapes if len(shape) > 1)
            return "embedding and its gradient" if of_weights else "head: the rest"
        return "layers: matrix products" if product else "layers: the rest"

    def table(self, total: float) -> str:
        """The parts as Markdown.

        Args:
            total: the thread's seconds over the same time.
        """
        lines = []
        for part, ops in sorted(self.seconds.items(), key=lambda item: -item[1].total()):
            most = ", ".join(f"{name} {taken:.2f}" for name, taken in ops.most_common(8) if taken >= 0.005)
            lines.append([part, f"{ops.total():.2f}", f"{ops.total() / total:.0%}", most])
        rest = total - sum(ops.total() for ops in self.seconds.values())
        lines.append(["Python, autograd, this clock", f"{rest:.2f}", f"{rest / total:.0%}", ""])
        return markdown(["part", "CPU s", "share", "operations"], lines)


class Profiled:
    """Turns without waiting: the third step is taken apart."""

    def __init__(self, vocabulary: int, hidden: int) -> None:
        self.table = ""
        """Filled after the third step."""
        self._clock = OpClock(vocabulary, hidden)
        self._taken, self._started = 0, 0.0

    def turn(self) -> None:
        """To be called before each step."""
        self._taken += 1
        if self._taken == 3:
            self._started = time.thread_time()
            self._clock.__enter__()
        if self._taken == 4:
            self._clock.__exit__(None, None, None)
            total = time.thread_time() - self._started
            self.table = f"one step on one thread, {total:.2f} CPU s\n\n{self._clock.table(total)}\n"
