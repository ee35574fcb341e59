"""A small Ray actor that carries the training figures from the first worker to the driver's terminal and files."""

from __future__ import annotations

import math
from typing import Any


class Board:
    """Messages in order; the driver takes what is new. Runs as an actor without CPUs of its own."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []

    def post(self, message: dict[str, Any]) -> None:
        """Put a message up."""
        self._messages.append(message)

    def since(self, place: int) -> list[dict[str, Any]]:
        """The messages from a place on."""
        return self._messages[place:]


def plain(value: Any) -> Any:
    """A record as JSON can hold it: numbers that aren't finite become None, however deep they stand."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def start_board() -> Any:
    """A board on the driver's node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
