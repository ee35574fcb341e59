"""A plan as tables, cell by cell: the terminal and the page show the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koala_ray.pages import Grid, compact, number

WORDS = frozenset({"assumption", "source", "market", "what", "if", "kind"})
"""Headers of the columns that hold words; the others hold numbers."""
ENDLESS = "never ends"


def headline(plan: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What whoever pays looks for first: name, value, and a word beside it."""
    stage, reclaims = str(plan["stage"]), plan["expected_reclaims"]
    lasting, every = plan["dollars_on_demand"], plan["checkpoint_minutes"]
    often = "only at the end" if every >= 60 * plan["hours"] else f"{every:.0f} minutes"
    fit = "fits" if plan["fits"][stage] else "doesn't fit"
    return [
        (
            "expected on spot",
            dollars(plan["expected_dollars_with_reclaims"]),
            f"{dollars(plan['dollars'])} undisturbed, at ${plan['price_per_device_hour']['value']:g} an hour each",
        ),
        (
            "hours of training",
            hours(plan["hours"]),
            f"{hours(plan['expected_hours_with_reclaims'])} with starts, checkpoints and "
            + ("reclaims" if reclaims is None else f"{reclaims:.1f} reclaims"),
        ),
        (
            "on demand",
            "–" if lasting is None else dollars(lasting),
            "no price known" if lasting is None else f"at ${plan['price_on_demand']['value']:g} an hour each",
        ),
        (
            "memory",
            f"{plan['peak_gb_per_gpu'][stage]:.1f} GB",
            f"of {plan['gb_of_gpu']:g} a device: ZeRO-{stage} {fit}",
        ),
        (
            "tokens",
            compact(plan["tokens"]),
            f"{number(plan['steps'])} steps of {number(round(plan['tokens_per_step']))}, {plan['epochs']} epochs",
        ),
        (
            "tokens per second",
            number(round(plan["tokens_per_second"])),
            f"{plan['step_seconds']:.2f} s a step, {100 * plan['mfu']:.0f} % of the peak (MFU)",
        ),
        (
            "checkpoint every",
            often,
            f"{number(plan['checkpoint_steps'])} steps; {plan['checkpoint_gb']:.1f} GB, safe after "
            f"{plan['checkpoint_seconds']:.0f} s, training waits for {plan['checkpoint_stall_seconds']:.1f}",
        ),
        ("machines", plan["on"], f"{plan['base']}, {compact(plan['parameters'])} parameters"),
    ]


def memory_grid(plan: Mapping[str, Any]) -> Grid:
    """GB a device by part and ZeRO stage."""
    stages = plan["memory_gb_per_gpu"]
    marks = {plan["recipe_stage"]: " (recipe)"}
    if plan["recommended"] is not None:
        marks[plan["recommended"]] = marks.get(plan["recommended"], "") + " (best)"
    rows = [(part, *(f"{parts[part]:.1f}" for parts in stages.values())) for part in stages["0"]]
    rows += [
        ("at the peak", *(f"{size:.1f}" for size in plan["peak_gb_per_gpu"].values())),
        ("fits", *("yes" if fitting else "no" for fitting in plan["fits"].values())),
        ("seconds a step", *(f"{seconds:.2f}" for seconds in plan["step_seconds_by_stage"].values())),
    ]
    if any(plan["host_gb_per_node"].values()):
        rows.append(("offloaded to the node", *(f"{size:.0f}" for size in plan["host_gb_per_node"].values())))
    return Grid(
        f"GB of a device's {plan['gb_of_gpu']:g}, of which {100 * plan['headroom']:.0f} % should stay free",
        ("what", *(f"ZeRO-{stage}{marks.get(int(stage), '')}" for stage in stages)),
        tuple(rows),
    )


def money_grid(plan: Mapping[str, Any]) -> Grid:
    """Dollars under one assumption after another."""
    price = plan["price_per_device_hour"]["value"]
    rows = [(f"spot at ${price:g}, undisturbed", hours(plan["hours"]), dollars(plan["dollars"]))]
    risk, own = plan["hazard_per_node_hour"]["value"], plan["expected_dollars_as_the_recipe_checkpoints"]
    once = plan["expected_dollars_with_one_checkpoint"]
    rows += [
        (f"spot, {_gap(item['value'])}", hours(item["hours"]), dollars(item["dollars"]))
        for item in sorted(plan["by_hazard"], key=lambda item: bool(item["value"] == risk))
    ]
    if risk:
        late, most = plan["expected_hours_with_one_checkpoint"], plan["hours_of_nineteen_in_twenty"]
        rows += [
            (
                f"the same with {item['value']:g} s of notice" + ("" if item["in_time"] else ", too short to save"),
                hours(item["hours"]),
                dollars(item["dollars"]),
            )
            for item in plan["by_notice"]
        ]
        rows += [
            ("the same, 19 runs of 20 take less than", hours(most), ""),
            ("the same with the recipe's own checkpoints", "", dollars(own)),
            ("the same with one checkpoint at the end", hours(late), dollars(once)),
        ]
    if plan["dollars_on_demand"] is not None:
        rows.append((f"on demand at ${plan['price_on_demand']['value']:g}", "", dollars(plan["dollars_on_demand"])))
    rows += [
        (f"should the efficiency be {100 * item['efficiency']:.0f} %", hours(item["hours"]), "")
        for item in plan["hours_by_efficiency"]
    ]
    return Grid("Hours and dollars", ("if", "hours", "dollars"), tuple(rows))


def prices_grid(plan: Mapping[str, Any]) -> Grid:
    """What is known of prices, newest first."""
    rows = tuple(
        (item["market"], f"{item['value']:.2f}", dollars(item["dollars"]), f"{item['date']}, {item['text']}")
        for item in plan["known_prices"]
    )
    return Grid("Known prices, and this run undisturbed", ("market", "$ an hour each", "dollars", "source"), rows)


def koala_grid(plan: Mapping[str, Any]) -> Grid:
    """What Koala's announced run would need for this plan's tokens."""
    claim = plan["koala_claim"]
    rows = [
        ("tokens an epoch, here", compact(claim["tokens_per_epoch"])),
        ("tokens per second that it needs", number(round(claim["tokens_per_second"]))),
        ("efficiency (MFU) that it needs", f"{100 * claim['mfu']:.0f} %"),
        ("best published for 13B on these machines", f"{100 * claim['published_mfu']:.0f} %"),
        ("dollars per GPU-hour, undisturbed, at most", f"{claim['price_per_gpu_hour']:.2f}"),
    ]
    rows += [
        (f"tokens an epoch that fit at {100 * float(mfu):.0f} %", compact(tokens))
        for mfu, tokens in claim["tokens_per_epoch_that_fit"].items()
    ]
    within = "within" if claim["within_published"] else "beyond"
    caption = (
        f"Koala's claim (13B, {claim['epochs']} epochs, {claim['hours']} h, under ${claim['dollars']}, "
        f"{claim['machines']}) with these tokens: {within} what has been published"
    )
    return Grid(caption, ("what", "figure"), tuple(rows))


def assumptions_grid(plan: Mapping[str, Any]) -> Grid:
    """Every figure that the plan rests on."""
    risk = plan["hazard_per_node_hour"]
    listed = [*plan["assumptions"], {"name": "reclaims per node-hour", "unit": "", **risk}]
    rows = tuple(
        (
            item["name"],
            f"{item['value']:g} {item['unit']}".strip(),
            item["kind"],
            ", ".join(part for part in (item["date"], item["text"]) if part),
        )
        for item in listed
    )
    return Grid("Figures that the plan takes from elsewhere", ("assumption", "figure", "kind", "source"), rows)


def dollars(value: float | None) -> str:
    """An amount; of a run that never ends there is none."""
    if value is None:
        return ENDLESS
    return f"${value:,.2f}" if value < 10 else f"${value:,.0f}"


def hours(value: float | None) -> str:
    """Hours, or minutes where they are few."""
    if value is None:
        return ENDLESS
    return f"{value:,.1f} h" if value >= 1 else f"{60 * value:.1f} min"


def _gap(hazard: float) -> str:
    """A hazard as people think of it."""
    if not hazard:
        return "no reclaims"
    return f"a reclaim every {1 / hazard:,.0f} node-hours" if hazard < 1 else f"{hazard:g} reclaims a node-hour"
