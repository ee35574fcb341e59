"""The plan of a run: whether it fits, how long it takes and what it costs, before any machine is rented."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.plan.advice import advise, fits
from koala_ray.plan.flops import flops_per_token
from koala_ray.plan.hardware import (
    GIGA,
    Cluster,
    Figure,
    Source,
    assumption,
    given,
    parse_cluster,
    shown,
)
from koala_ray.plan.memory import STAGES, footprint, trained_parameters
from koala_ray.plan.money import HOUR, choose_price, koala_needs, money
from koala_ray.plan.shape import ModelShape, shape_of
from koala_ray.plan.step_time import exchanged_bytes, optimizer_seconds, peak, step_time
from koala_ray.plan.workload import Workload, prepared_workload, stated_workload
from koala_ray.recipe import Recipe
from koala_ray.steps import StepResult


def plan(
    recipe: Recipe,
    on: str,
    price: float | None = None,
    *,
    tokens: int | None = None,
    packs: StepResult | str | None = None,
    hazard: float | None = None,
    on_demand: float | None = None,
    efficiency: float | None = None,
) -> dict[str, Any]:
    """Memory, hours and dollars of a recipe on machines.

    Args:
        recipe: its ``train.workers`` is replaced by the number of devices.
        on: the machines, such as ``8xA100-80GB``.
        price: dollars for an hour of one GPU (of one node of CPUs) on spot; when left out the recipe's
            ``cost.price``, else the newest known one.
        tokens: tokens of an epoch; goes before ``packs``.
        packs: a token step, or its folder.
        hazard: reclaims per node-hour; the data file's when left out.
        on_demand: dollars for an hour of one GPU that isn't reclaimed; the newest known one when left out.
        efficiency: MFU while forward and backward run; published figures times an allowance when left out.

    Returns:
        JSON values: GB by ZeRO stage and part, the stage recommended, tokens over all epochs, seconds of a step,
        hours, dollars, the best minutes between checkpoints, expected dollars with reclaims, what Koala's claim
        needs, and each assumption with its source. ``hours`` and ``dollars`` are of training alone, undisturbed; they
        are for the recipe's own ZeRO stage, or for the recommended one if that doesn't fit (``stage`` says which).

    Raises:
        KoalaError: unknown machines or model, nothing to train on, or no price.
    """
    cluster, shape = parse_cluster(on), shape_of(recipe.model.base)
    spot = choose_price(recipe.cost.price if price is None else price, cluster.device.spot, on)
    lasting = given(on_demand) if on_demand is not None else next(iter(cluster.device.on_demand), None)
    risk = given(hazard) if hazard is not None else cluster.device.hazard or assumption("hazard_per_node_hour")
    recipe, working, notes = _on_cluster(recipe, cluster)
    work = _workload(recipe, tokens, packs)
    mfu = _efficiency(recipe, shape, cluster, efficiency)
    memory = _memory(recipe, shape, working)
    recipe = _at_stage(recipe, memory)
    stage = recipe.train.zero_stage
    times = {
        each: step_time(shape, recipe, each, working, work.tokens_per_step, work.attended, mfu.value) for each in STAGES
    }
    step = times[stage]
    flops = flops_per_token(shape, work.attended, recipe.lora)
    speed = work.tokens_per_step / step.total
    hours = work.steps * step.total / HOUR
    return {
        "recipe": recipe.name,
        "about": recipe.about,
        "base": recipe.model.base,
        "on": cluster.name,
        "devices": cluster.workers,
        "nodes": cluster.nodes,
        "workers": working.workers,
        "micro_rows": recipe.train.micro_rows,
        "notes": notes,
        "precision": recipe.train.precision,
        "parameters": shape.parameters,
        "trained_parameters": trained_parameters(shape, recipe),
        **memory,
        "stage": stage,
        "epochs": recipe.train.epochs,
        "tokens": work.tokens,
        "tokens_per_epoch": work.tokens_per_epoch,
        "learnt_tokens": work.learnt,
        "attended": round(work.attended, 1),
        "known_from": work.known_from,
        "steps": work.steps,
        "tokens_per_step": round(work.tokens_per_step, 1),
        "step_seconds": round(step.total, 4),
        "step_parts": {name: round(seconds, 4) for name, seconds in asdict(step).items()},
        "step_seconds_by_stage": {str(each): round(time.total, 4) for each, time in times.items()},
        "flops_per_token": flops,
        "tokens_per_second": round(speed, 1),
        "efficiency": shown(mfu),
        "mfu": round(speed * flops / (peak(working, recipe.train) * working.workers), 4),
        "hours": round(hours, 4),
        "hours_by_efficiency": _by_efficiency(recipe, shape, working, work, mfu.value),
        **money(recipe, shape, cluster, hours, step, spot, lasting, risk),
        "koala_claim": koala_needs(work),
        "assumptions": _assumptions(cluster, recipe, mfu, efficiency is None),
    }


def _on_cluster(recipe: Recipe, cluster: Cluster) -> tuple[Recipe, Cluster, list[str]]:
    """The recipe with a worker on each device, the devices that work, and what had to be changed for that.

    Where a batch doesn't divide, a smaller micro-batch gives way first, which changes no result. Where it has too few
    rows even so, some devices stay idle: the batch is the recipe's to choose, and the bill is for all of them.
    """
    rows, own = recipe.train.batch_rows, recipe.train.micro_rows
    working, notes = _dividing(cluster, rows), []
    workers = working.workers
    if workers < cluster.workers:
        nearest = max(1, round(rows / cluster.workers)) * cluster.workers
        notes.append(
            f"{workers} of the {cluster.workers} devices work, all are paid for: a batch of {rows} packed rows doesn't "
            f"divide among more. --set train.batch_rows={nearest} has work for each."
        )
    micro = max(part for part in range(1, own + 1) if rows // workers % part == 0)
    if micro < own:
        share = rows // workers
        said = f"{share} row" if share == 1 else f"{share} rows"
        notes.append(f"train.micro_rows is taken as {micro}, not {own}: a worker's share of a batch is {said}.")
    gpus = int(cluster.device.is_gpu)
    return _with_train(recipe, workers=workers, micro_rows=micro, gpus_per_worker=gpus), working, notes


def _dividing(cluster: Cluster, rows: int) -> Cluster:
    """As many of the devices as divide the rows, the same number on each node, on as few nodes as can be."""
    per_node = range(1, cluster.per_node + 1)
    sizes = [(nodes, devices) for nodes in range(1, cluster.nodes + 1) for devices in per_node]
    nodes, devices = max(
        (size for size in sizes if rows % (size[0] * size[1]) == 0), key=lambda size: (size[0] * size[1], -size[0])
    )
    return Cluster(cluster.device, nodes, devices)


def _at_stage(recipe: Recipe, memory: dict[str, Any]) -> Recipe:
    own, recommended = recipe.train.zero_stage, memory["recommended"]
    if memory["fits"][str(own)] or recommended is None:
        return recipe
    return _with_train(recipe, zero_stage=recommended)


def _with_train(recipe: Recipe, **settings: int) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})


def _workload(recipe: Recipe, tokens: int | None, packs: StepResult | str | None) -> Workload:
    if tokens is not None:
        return stated_workload(recipe, tokens)
    if packs is not None:
        return prepared_workload(recipe, packs.folder if isinstance(packs, StepResult) else packs)
    raise KoalaError(
        "nothing says how much there is to train on",
        where=f"recipe {recipe.name}",
        mend=f"give --tokens with an epoch's tokens, or --packs with a tokens step's folder, or run `koala-ray prepare "
        f"{recipe.name}` with the same --set, --data and --out first",
    )


def _efficiency(recipe: Recipe, shape: ModelShape, cluster: Cluster, stated: float | None) -> Figure:
    if stated is not None:
        return given(stated)
    device = cluster.device
    published = device.published_efficiency(shape.parameters, recipe.train.activation_checkpointing)
    return Figure(published * device.allowance.value, device.sources["efficiency"])


def _memory(recipe: Recipe, shape: ModelShape, cluster: Cluster) -> dict[str, Any]:
    """What each stage holds, and the one to take: of those that fit the one that exchanges least."""
    needs = {stage: footprint(shape, recipe, stage, cluster.nodes) for stage in STAGES}
    memory, trained = cluster.device.memory, trained_parameters(shape, recipe)
    fitting = [stage for stage in STAGES if fits(needs[stage], memory)]

    def cost(stage: int) -> tuple[float, float]:
        exchanged = sum(exchanged_bytes(shape.parameters, trained, stage, recipe.train))
        return exchanged, optimizer_seconds(trained, stage, recipe.train, cluster)

    return {
        "memory_gb_per_gpu": {str(stage): needs[stage].parts() for stage in STAGES},
        "peak_gb_per_gpu": {str(stage): round(needs[stage].peak / GIGA, 3) for stage in STAGES},
        "host_gb_per_node": {str(stage): round(needs[stage].host / GIGA, 3) for stage in STAGES},
        "gb_of_gpu": memory / GIGA,
        "headroom": assumption("headroom").value,
        "fits": {str(stage): stage in fitting for stage in STAGES},
        "recipe_stage": recipe.train.zero_stage,
        "recommended": min(fitting, key=cost) if fitting else None,
        "advice": [] if fitting else advise(recipe, shape, memory, cluster.nodes),
    }


def _by_efficiency(
    recipe: Recipe, shape: ModelShape, cluster: Cluster, work: Workload, central: float
) -> list[dict[str, float]]:
    """Hours should the efficiency be another: a third less, as planned, and as the published runs reach."""
    published = cluster.device.published_efficiency(shape.parameters, recipe.train.activation_checkpointing)
    rows = []
    for mfu in sorted({central * 2 / 3, central, published}):
        stage = recipe.train.zero_stage
        step = step_time(shape, recipe, stage, cluster, work.tokens_per_step, work.attended, mfu)
        rows.append({"efficiency": round(mfu, 4), "hours": round(work.steps * step.total / HOUR, 4)})
    return rows


def _assumptions(cluster: Cluster, recipe: Recipe, mfu: Figure, derived: bool) -> list[dict[str, Any]]:
    """Every figure that the plan rests on, with its source and date; prices and the hazard stand with the money."""
    device, train = cluster.device, recipe.train
    listed: list[tuple[str, float, str, Source]] = [
        (
            "peak of a device" if device.is_gpu else "peak of a core",
            device.peak[train.precision] / 1e12,
            f"TFLOP/s {train.precision}",
            device.sources["peak"],
        ),
        ("memory of a device", device.memory / GIGA, "GB", device.sources["memory"]),
        ("its bandwidth", device.memory_bandwidth / GIGA, "GB/s", device.sources["memory"]),
        ("link between devices", device.link / GIGA, "GB/s one way", device.sources["link"]),
        ("efficiency of forward and backward", mfu.value, "MFU", mfu.source),
    ]
    if derived:
        listed.append(("of what is published", device.allowance.value, "", device.allowance.source))
    if cluster.nodes > 1:
        listed.append(("network of a node", device.network / GIGA, "GB/s one way", device.sources["network"]))
    named = {
        "link_reached": ("what collectives reach of a link", ""),
        "overlap": ("what of the exchange is hidden", ""),
        "memory_bandwidth_reached": ("what AdamW reaches of the bandwidth", ""),
        "gpu_context_gb": ("CUDA's context", "GB"),
        "headroom": ("head-room left free", ""),
        "copy_gb_per_second": ("a device's checkpoint into the node's memory", "GB/s"),
        "checkpoint_gb_per_second": ("a node to storage", "GB/s"),
        "restart_minutes": ("from a reclaim until training goes on", "minutes"),
    }
    listed += [(text, assumption(key).value, unit, assumption(key).source) for key, (text, unit) in named.items()]
    return [
        {"name": name, "value": round(value, 4), "unit": unit, **asdict(source)} for name, value, unit, source in listed
    ]
