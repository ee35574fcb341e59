"""A run's records as a real run gives them, made up: falling losses, an incident, a restart, sampled answers."""

from __future__ import annotations

import math
import random
from typing import Any

GROUPS = ("sharegpt/none", "hh/positive", "hh/negative", "webgpt/positive")
STATUS = {"tokens_per_second": 1234.5, "mfu": None, "dollars": 1.25, "dollars_to_go": 98.75, "hours_left": 0.5}


def start(step: int) -> dict[str, Any]:
    known = {"workers": 2, "parameters": 134_515_008, "trained_parameters": 134_515_008}
    return {"kind": "start", "step": step, **known, "flops_per_token": 8.1e8, "peak_flops": 4e12, "device": "cpu"}


def step(taken: int, steps: int, noise: random.Random) -> dict[str, Any]:
    done = taken / steps
    return {
        "kind": "step",
        "step": taken,
        "loss": 1.7 + 0.8 * math.exp(-5 * done) + noise.gauss(0, 0.08),
        "lr": 2e-5 * min(1.0, 20 * done) * (0.55 + 0.45 * math.cos(math.pi * done)),
        "grad_norm": math.exp(noise.gauss(0.2, 0.3)),
        "tokens": 8192 - noise.randrange(200),
        "learnt": 3000 + noise.randrange(900),
        "seconds": 2.0 + abs(noise.gauss(0, 0.1)),
        "data_wait": abs(noise.gauss(0, 0.004)),
        "checkpoint_stall": 0.6 if taken % 50 == 1 and taken > 1 else 0.0,
    }


def evaluation(taken: int, steps: int, samples: int = 1) -> dict[str, Any]:
    fallen = 1 - math.exp(-4 * taken / steps)
    groups = {
        name: {"loss": 2.4 + 0.2 * place - (0.5 - 0.1 * place) * fallen, "learnt": 1000 * (place + 1)}
        for place, name in enumerate(GROUPS)
    }
    learnt = sum(group["learnt"] for group in groups.values())
    return {
        "kind": "evaluation",
        "step": taken,
        "heldout_loss": sum(group["loss"] * group["learnt"] for group in groups.values()) / learnt,
        "groups": groups,
        "seconds": 3.0,
        "samples": [
            {"prompt": f"Question {place}: why is\nthe sky <blue>?", "answer": f"Answer {place} after {taken} steps."}
            for place in range(samples)
        ],
    }


def incident(taken: int, what: str = "spike", loss: float | None = 7.5) -> dict[str, Any]:
    rows = {"rows": [taken * 8, taken * 8 + 1], "examples": [f"hc3/a.jsonl#{taken}", "hh/b.jsonl#2/chosen"]}
    return {"kind": "incident", "step": taken, "what": what, "action": "note", "loss": loss, "grad_norm": 3.0, **rows}


def records(steps: int = 60, every: int = 20, seed: int = 0, restart: int = 0) -> list[dict[str, Any]]:
    """The whole ``metrics.jsonl`` of a run; with ``restart``, taken up again after so many steps."""
    noise = random.Random(seed)
    found = [start(0), evaluation(0, steps)]
    for taken in range(1, steps + 1):
        if restart and taken == restart + 1:
            found.append(start(restart))
        made = step(taken, steps, noise)
        if taken == steps // 2:
            found.append(incident(taken))
            made["loss"] = 7.5
        found.append(made)
        if taken % every == 0 or taken == steps:
            found.append(evaluation(taken, steps))
    return found
