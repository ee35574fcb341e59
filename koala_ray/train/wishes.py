"""What the first worker wishes before each step, from the cluster and the clock: to save, to leave, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
import ray.train

from koala_ray.plan.hardware import assumption
from koala_ray.preempt.signals import Decider, Signals, Situation, Wish, explain
from koala_ray.recipe import Recipe
from koala_ray.session import draining_nodes, room
from koala_ray.train.pace import Pace
from koala_ray.train.reduce import gather_from_workers


def wisher(recipe: Recipe, nodes: int, tell: Callable[[dict[str, Any]], None], saver: Any) -> Callable[[float], Wish]:
    """What the first worker asks before each step; every worker must call it, since it needs to know their nodes.

    Args:
        recipe: with the workers that the run wants, however many there are now.
        nodes: machines that the run holds.
        tell: takes what a person should know.
        saver: writes the checkpoints, and knows what they cost.
    """
    settings, cost = recipe.train, recipe.cost
    ours = gather_from_workers(ray.get_runtime_context().get_node_id())

    def look() -> Situation:
        leaving = draining_nodes()
        deadlines = [leaving[node] for node in ours if node in leaving]
        free = room(ray, settings.cpus_per_worker, settings.gpus_per_worker, free=True)
        held = settings.workers_for(free + len(ours) - len(deadlines))
        return Situation(min(deadlines, default=None), held)

    if ray.train.get_context().get_world_rank() != 0:
        return lambda step_seconds: Wish.NOTHING
    workers = ray.train.get_context().get_world_size()
    signals = Signals(look, Situation(None, workers))
    decider = Decider(workers, settings.min_workers or settings.workers, recipe.retries.settle_seconds)
    hazard = assumption("hazard_per_node_hour").value if cost.hazard is None else cost.hazard
    pace = Pace(settings.checkpoint_minutes, hazard * nodes, time.time())
    counted = 0

    def wish(step_seconds: float) -> Wish:
        nonlocal counted
        now, situation = time.time(), signals.situation
        if saver.saves > counted:
            counted = saver.saves
            pace.saved(now)
        found = decider.wish(situation, now, step_seconds, saver.seconds)
        if found is not Wish.NOTHING:
            tell({"kind": "notice", "text": explain(found, situation)})
        elif pace.due(now, saver.stall, saver.seconds):
            found = Wish.SAVE
        return found

    return wish
