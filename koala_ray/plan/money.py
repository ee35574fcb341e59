"""What a run costs: on spot with the reclaims to be expected, on demand, and what Koala's announced bill needs."""

from __future__ import annotations

import math
from typing import Any

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
    parse_cluster,
    shown,
)
from koala_ray.plan.memory import checkpoint_bytes
from koala_ray.plan.reclaims import best_interval, expected_hours, expected_reclaims
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
    writing = size / cluster.nodes / (GIGA * assumption("checkpoint_gb_per_second").value) / HOUR
    restart = assumption("restart_minutes").value / 60

    def expected(hazard: float, interval: float | None = None) -> tuple[float, float]:
        """Hours from the first start to the end, and the interval between checkpoints."""
        rate = hazard * cluster.nodes
        chosen = best_interval(hours, writing, rate) if interval is None else interval
        return restart + expected_hours(hours, chosen, writing, restart, rate), chosen

    until, interval = expected(risk.value)
    every = recipe.train.checkpoint_every * step.total / HOUR
    own_hours, _ = expected(risk.value, min(every, hours) if every else hours)
    at_end, _ = expected(risk.value, hours)
    calm, _ = expected(0.0)
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
        "dollars_on_demand": round(calm * billed * lasting.value, 2) if lasting else None,
        "hazard_per_node_hour": shown(risk),
        "restart_minutes": assumption("restart_minutes").value,
        "checkpoint_gb": round(size / GIGA, 3),
        "checkpoint_seconds": round(writing * HOUR, 2),
        "checkpoint_minutes": round(interval * 60, 2),
        "checkpoint_steps": max(1, round(interval * HOUR / step.total)),
        "expected_reclaims": _finite(expected_reclaims(until, risk.value * cluster.nodes)),
        "expected_hours_with_reclaims": _finite(until, 4),
        "expected_dollars_with_reclaims": _finite(until * bill),
        "expected_dollars_as_the_recipe_checkpoints": _finite(own_hours * bill),
        "expected_dollars_with_one_checkpoint": _finite(at_end * bill),
        "by_hazard": [
            {**shown(risks[value]), "hours": _finite(known, 4), "dollars": _finite(known * bill)}
            for value in sorted(risks)
            for known, _ in [expected(value)]
        ],
    }


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
