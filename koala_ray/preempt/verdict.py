"""What a drill's two runs come to: do they agree, and what did the disturbances cost?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from koala_ray import storage
from koala_ray.checkpoint.manifest import RECORDS, parse_records
from koala_ray.train.ledger import Attempt, read_attempts
from koala_ray.train.step import ATTEMPTS

if TYPE_CHECKING:
    from koala_ray.preempt.drill import Kill

AGAIN = "starting the workers again"


def verdict(
    quiet: dict[str, Any], disturbed: dict[str, Any], kills: Sequence[Kill], said: Sequence[tuple[float, str]]
) -> dict[str, Any]:
    """Hold a disturbed run against an undisturbed one.

    Args:
        quiet: what ``koala-ray train --json`` printed of the one.
        disturbed: and of the other.
        kills: the disturbances.
        said: the other's lines on the terminal, with the time of each.
    """
    records = [parse_records(storage.read_bytes(f"{figures['folder']}/{RECORDS}")) for figures in (quiet, disturbed)]
    steps = [[record for record in arm if record["kind"] == "step"] for arm in records]
    taken = [record["step"] for record in steps[1]]
    expected = list(range(1, quiet["steps"] + 1))
    losses = [[record["loss"] for record in arm] for arm in steps]
    starts = [record for record in records[1] if record["kind"] == "start"]
    attempts = read_attempts(storage.join(disturbed["folder"], ATTEMPTS))
    told = [{**asdict(kill), **recovery(kill, steps[1], starts, said)} for kill in kills]
    resumed = [kill["seconds_to_resume"] for kill in told if kill["seconds_to_resume"] is not None]
    return {
        "arms": {"undisturbed": quiet["folder"], "disturbed": disturbed["folder"]},
        "steps": quiet["steps"],
        "kills": told,
        # Each worker holds the rows of each step against the plan, so the same steps are the same rows.
        "row_ids_equal": taken == expected,
        "rows_repeated": len(taken) - len(set(taken)),
        "rows_lost": len(set(expected) - set(taken)),
        "loss_max_relative_difference": max(
            (abs(one - other) / abs(one) for one, other in zip(*losses, strict=False)), default=0.0
        ),
        "weights_bit_identical": same_weights(quiet["model"], disturbed["model"]),
        "wasted_steps": sum(attempt.repeated_steps for attempt in attempts),
        "seconds_to_resume": round(sum(resumed) / len(resumed), 2) if resumed else None,
        "checkpoint_stall": [round(stall(arm), 5) for arm in steps],
        "goodput": [round(goodput(arm), 4) for arm in steps],
        "goodput_planned": round(planned_goodput(steps[0], resumed, attempts), 4),
    }


def recovery(
    kill: Kill,
    steps: Sequence[dict[str, Any]],
    starts: Sequence[dict[str, Any]],
    said: Sequence[tuple[float, str]],
) -> dict[str, float | None]:
    """How long it took after a disturbance, in seconds: until the run said so, its workers were up, the first new step.

    The first new step of the surviving run: those that the doomed workers still took are given up or come before.
    """
    start = next((record for record in starts if record["time"] > kill.time), None)
    up = start["time"] if start else None
    clock = start.get("clock", {}) if start else {}
    first = next((step["time"] for step in steps if up is not None and step["time"] > up), None)
    detected = next((time for time, line in said if time > kill.time and (AGAIN in line or "going on" in line)), None)
    return {
        "seconds_to_detect": _since(kill.time, detected),
        "seconds_to_launch": _since(kill.time, clock.get("began")),
        "seconds_of_imports": _since(clock.get("began"), clock.get("imported")),
        "seconds_of_loading": _since(clock.get("imported"), clock.get("restored")),
        "seconds_to_start": _since(kill.time, up),
        "seconds_to_resume": _since(kill.time, first),
    }


def _since(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else round(ended - began, 2)


def stall(steps: Sequence[dict[str, Any]]) -> float:
    """The part of the training time that steps waited for checkpoints."""
    waited = sum(step["checkpoint_stall"] for step in steps)
    return float(waited / (waited + sum(step["seconds"] for step in steps)))


def goodput(steps: Sequence[dict[str, Any]]) -> float:
    """The part of the time from the first step's start to the last one's end that went into steps that count."""
    if not steps:
        return 0.0
    busy = sum(step["seconds"] for step in steps)
    return float(busy / (steps[-1]["time"] - steps[0]["time"] + steps[0]["seconds"]))


def planned_goodput(steps: Sequence[dict[str, Any]], restarts: Sequence[float], attempts: Sequence[Attempt]) -> float:
    """The goodput that :func:`koala_ray.plan.reclaims.expected_hours` gives, to first order, for a drill's own parts.

    A disturbance costs a restart, half an interval between checkpoints, and what one takes until it is committed. How
    near that is to the goodput that was measured says how far the plan's hours for another size can be trusted.

    Args:
        steps: the undisturbed run's.
        restarts: seconds from each disturbance to the first new step.
        attempts: the disturbed run's.
    """
    if not steps:
        return 0.0
    busy = sum(step["seconds"] for step in steps)
    waits = [step["checkpoint_stall"] for step in steps if step["checkpoint_stall"]]
    half = busy / (len(waits) + 1) / 2
    commit = max((attempt.longest_checkpoint for attempt in attempts), default=0.0)
    return float(busy / (busy + sum(waits) + sum(restart + half + commit for restart in restarts)))


def same_weights(one: str, other: str) -> bool:
    """Whether two models' weight files are the same, byte by byte."""
    found = [
        {file.relative: storage.sha256(file.uri) for file in storage.list_files(folder, ["*.safetensors"])}
        for folder in (one, other)
    ]
    return bool(found[0]) and found[0] == found[1]


def lines(found: dict[str, Any]) -> list[str]:
    """The verdict for a person."""
    told = [
        f"{'kill':<12} {'saved':>6} {'detected':>9} {'launched':>9} {'workers up':>11} {'first step':>11}",
        *(
            f"{kill['kind']:<12} {kill['safe']:>6} {_s(kill['seconds_to_detect']):>9} "
            f"{_s(kill['seconds_to_launch']):>9} {_s(kill['seconds_to_start']):>11} "
            f"{_s(kill['seconds_to_resume']):>11}  {kill['detail']}".rstrip()
            for kill in found["kills"]
        ),
        "",
        f"rows              {'the same' if found['row_ids_equal'] else 'NOT the same'}, "
        f"{found['rows_repeated']} repeated, {found['rows_lost']} lost",
        f"losses            differ by {found['loss_max_relative_difference']:.1e} at most",
        f"final weights     {'identical, bit for bit' if found['weights_bit_identical'] else 'NOT identical'}",
        f"steps repeated    {found['wasted_steps']} of {found['steps']}",
        "checkpoint stall  " + ", ".join(f"{100 * part:.2f} %" for part in found["checkpoint_stall"]),
        "goodput           " + ", ".join(f"{100 * part:.1f} %" for part in found["goodput"]),
        f"                  (undisturbed, disturbed; by the plan's formula {100 * found['goodput_planned']:.1f} %)",
    ]
    return told


def _s(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f} s"
