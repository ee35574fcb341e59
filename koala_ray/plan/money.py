"""What a run costs: on spot with the reclaims to be expected, on demand, and what Koala's announced bill needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from koala_ray.errors import KoalaError
from koala_ray.plan.flops import flops_per_token
from koala_ray.plan.hardware import (
    GIGA,
    Cluster,
    Figure,
    assumption,
    given,
    hazards,
    koala_claim,
    notices,
    parse_cluster,
    shown,
)
from koala_ray.plan.memory import checkpoint_bytes
from koala_ray.plan.reclaims import MARGIN, Reclaims, best_interval, expected_hours, expected_reclaims, simulated_hours
from koala_ray.plan.shape import ModelShape, shape_of
from koala_ray.plan.step_time import StepTime
from koala_ray.plan.workload import Workload
from koala_ray.recipe import Recipe

HOUR = 3600.0
SHOWN_MFU = (0.3, 0.4, 0.5)
"""Efficiencies for which Koala's claim is turned into tokens, beside the best one published."""


def choose_price(stated: float | None, known: tuple[Figure, ...], on: str) -> Figure:
    """The price that was stated, else the newest known one.

    Raises:
        KoalaError: there is none.
    """
    if stated is not None:
        return given(stated)
    if known:
        return known[0]
    raise KoalaError(
        "no price of these machines is known", where=f"--on {on}", mend="give --price DOLLARS_PER_GPU_HOUR"
    )


def money(
    recipe: Recipe,
    shape: ModelShape,
    cluster: Cluster,
    hours: float,
    step: StepTime,
    spot: Figure,
    lasting: Figure | None,
    risk: Figure,
) -> dict[str, Any]:
    """Dollars on spot and on demand; a reclaim of any node stops all of them, which are paid while they wait."""
    billed = cluster.workers if cluster.device.is_gpu else cluster.nodes
    size = checkpoint_bytes(shape, recipe)
    stall = size / cluster.workers / (GIGA * assumption("copy_gb_per_second").value) / HOUR
    commit = size / cluster.nodes / (GIGA * assumption("checkpoint_gb_per_second").value) / HOUR
    restart = assumption("restart_minutes").value / 60

    def against(hazard: float, announced: float = 0.0) -> Reclaims:
        return Reclaims(hazard * cluster.nodes, restart, stall, commit, announced)

    def pause(hazard: float) -> float:
        """Hours of work between checkpoints: what costs least, but one at a time."""
        return min(hours, max(commit, best_interval(hours, stall, hazard * cluster.nodes)))

    def expected(hazard: float, announced: float = 0.0) -> float:
        """Hours from the first start to the end."""
        return restart + expected_hours(hours, pause(hazard), against(hazard, announced))

    until, interval = expected(risk.value), pause(risk.value)
    every = recipe.train.checkpoint_every * step.total / HOUR
    own = restart + expected_hours(hours, min(every, hours) if every else hours, against(risk.value))
    # As Koala wrote it: training waits for its only checkpoint.
    last = Reclaims(risk.value * cluster.nodes, restart, commit)
    at_end = restart + expected_hours(hours, hours, last)
    risks = {risk.value: risk}
    if cluster.device.hazard is None:
        risks |= {figure.value: figure for figure in hazards()}
    bill = billed * spot.value
    return {
        "price_per_device_hour": shown(spot),
        "price_on_demand": shown(lasting) if lasting else None,
        "known_prices": [
            {"market": market, **shown(price), "dollars": round(price.value * billed * hours, 2)}
            for market, prices in (("spot", cluster.device.spot), ("on demand", cluster.device.on_demand))
            for price in prices
        ],
        "device_hours": round(hours * billed, 3),
        "dollars": round(hours * bill, 2),
        "dollars_on_demand": round(expected(0.0) * billed * lasting.value, 2) if lasting else None,
        "hazard_per_node_hour": shown(risk),
        "restart_minutes": assumption("restart_minutes").value,
        "checkpoint_gb": round(size / GIGA, 3),
        "checkpoint_stall_seconds": round(stall * HOUR, 2),
        "checkpoint_seconds": round(commit * HOUR, 2),
        "checkpoint_minutes": round(interval * 60, 2),
        "checkpoint_steps": max(1, round(interval * HOUR / step.total)),
        "expected_reclaims": _finite(expected_reclaims(until, risk.value * cluster.nodes)),
        "expected_hours_with_reclaims": _finite(until, 4),
        "expected_dollars_with_reclaims": _finite(until * bill),
        "expected_goodput": _finite(hours / until, 4),
        "expected_dollars_as_the_recipe_checkpoints": _finite(own * bill),
        "expected_hours_with_one_checkpoint": _finite(at_end, 4),
        "expected_dollars_with_one_checkpoint": _finite(at_end * bill),
        "expected_goodput_with_one_checkpoint": _finite(hours / at_end, 4),
        "hours_of_nineteen_in_twenty": _most(restart, hours, interval, against(risk.value)),
        "by_hazard": [
            {**shown(risks[value]), "hours": _finite(known, 4), "dollars": _finite(known * bill)}
            for value in sorted(risks)
            for known in [expected(value)]
        ],
        "by_notice": [
            {**shown(notice), "in_time": in_time, "hours": _finite(known, 4), "dollars": _finite(known * bill)}
            for notice in notices()
            for in_time in [notice.value > MARGIN * commit * HOUR + step.total]
            for known in [expected(risk.value, announced=float(in_time))]
        ],
    }


RUNS = 2_000
"""How many are played for the spread of the hours, and at most a hundred times as many reclaims."""
WORTH_PLAYING = 20
"""A run that takes so many times its work in the mean has no useful spread."""


def _most(restart: float, hours: float, interval: float, reclaims: Reclaims) -> float | None:
    """Hours that a run in twenty exceeds; None for one that reclaims hardly let end."""
    mean = expected_hours(hours, interval, reclaims)
    if not hours or mean > WORTH_PLAYING * hours:
        return None
    runs = int(min(RUNS, 100 * RUNS / (1 + expected_reclaims(mean, reclaims.rate))))
    if runs < 100:  # thousands of reclaims: the mean is what happens
        return _finite(restart + mean, 4)
    played = simulated_hours(hours, interval, reclaims, runs)
    return _finite(restart + float(np.quantile(played, 0.95)), 4)


def _finite(value: float, digits: int = 2) -> float | None:
    """Rounded for JSON; None for a run that reclaims never let end."""
    return round(value, digits) if math.isfinite(value) else None


def koala_needs(work: Workload) -> dict[str, Any]:
    """What Koala's announced run needs for these tokens, whatever machines the plan itself is for."""
    claim = koala_claim()
    cluster, shape = parse_cluster(claim["machines"]), shape_of(claim["base"])
    flops = flops_per_token(shape, work.attended)
    could = cluster.device.peak["bfloat16"] * cluster.workers * claim["hours"] * HOUR / flops / claim["epochs"]
    needed = work.tokens_per_epoch / could
    published = claim["published_mfu"]
    return {
        **claim,
        "tokens_per_epoch": work.tokens_per_epoch,
        "tokens_per_second": round(work.tokens_per_epoch * claim["epochs"] / (claim["hours"] * HOUR), 1),
        "mfu": round(needed, 4),
        "mfu_planned": round(published * cluster.device.allowance.value, 3),
        "tokens_per_epoch_that_fit": {str(mfu): round(could * mfu) for mfu in (*SHOWN_MFU, published)},
        "price_per_gpu_hour": round(claim["dollars"] / (claim["hours"] * cluster.workers), 3),
        "within_published": needed <= published,
    }
