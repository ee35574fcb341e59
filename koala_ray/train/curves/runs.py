"""What the curves are made of: runs' records, series of points, smoothing, thinning, and a run's last figures."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from koala_ray import storage
from koala_ray.checkpoint.manifest import RECORDS, parse_records
from koala_ray.errors import KoalaError

Record = Mapping[str, Any]
"""A line of ``metrics.jsonl``."""
Runs = Mapping[str, Sequence[Record]]
"""Each run's records under the name that it is shown by."""
Points = tuple[np.ndarray, np.ndarray]
"""Steps and values, equally many."""
MOST_POINTS = 2000
"""Points that a line is drawn with at most."""


def name_runs(folders: Sequence[str]) -> dict[str, str]:
    """Train steps' folders or URIs, each once, under names of their own: the folder's name, or all of its path."""
    places = list(dict.fromkeys(storage.absolute(folder) for folder in folders))
    names = [posixpath.basename(place) for place in places]
    return {name if names.count(name) == 1 else place: place for name, place in zip(names, places, strict=True)}


def read_run(folder: str) -> list[dict[str, Any]]:
    """The records of a train step's folder or URI; of a run that isn't finished, up to its last checkpoint.

    Raises:
        KoalaError: the folder holds no run, or its figures can't be read.
    """
    uri = storage.join(folder, RECORDS)
    if not storage.exists(uri):
        raise KoalaError(
            f"there are no figures of a run here (no {RECORDS})",
            where=folder,
            mend="give a train step's folder, train-…; a run has figures from its first checkpoint on",
        )
    try:
        records = parse_records(storage.read_bytes(uri))
        last_figures(records)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KoalaError(
            f"the figures of this run can't be read: {type(error).__name__} {error}",
            where=uri,
            mend="leave this run out, or train again with this version",
        ) from error
    return records


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """The records of one kind, in order."""
    return [record for record in records if record["kind"] == kind]


def points(records: Iterable[Record], key: str) -> Points:
    """The steps and values of a figure, without those that aren't known or weren't finite."""
    known = [(record["step"], record[key]) for record in records if record.get(key) is not None]
    return _arrays(known)


def speed(steps: Iterable[Record]) -> Points:
    """Tokens per second at each step."""
    return _arrays([(record["step"], record["tokens"] / record["seconds"]) for record in steps if record["seconds"]])


def groups(evaluations: Sequence[Record]) -> dict[str, Points]:
    """The held-out loss of each group that has one, by name."""
    names = sorted({name for record in evaluations for name in record["groups"]})
    found = {
        name: _arrays(
            [
                (record["step"], record["groups"][name]["loss"])
                for record in evaluations
                if record["groups"].get(name, {}).get("loss") is not None
            ]
        )
        for name in names
    }
    return {name: series for name, series in found.items() if len(series[0])}


def _arrays(pairs: Sequence[tuple[int, float]]) -> Points:
    return np.array([step for step, _ in pairs], dtype=int), np.array([value for _, value in pairs], dtype=float)


def without_spikes(values: np.ndarray) -> np.ndarray:
    """The running median of five points: one or two wild ones in a row leave no trace."""
    if not len(values):
        return values
    padded = np.pad(values, 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=-1))


def smoothed(values: np.ndarray) -> np.ndarray:
    """An exponential moving average over about a twentieth of the points, without spikes.

    The weight of all points so far is divided out, as Adam does for its moments (Kingma and Ba 2015, section 3).
    """
    decay = 1 - 2 / (max(1.0, len(values) / 20) + 1)
    found, average, weight = np.empty(len(values)), 0.0, 0.0
    for place, value in enumerate(without_spikes(values)):
        average = decay * average + (1 - decay) * value
        weight = decay * weight + (1 - decay)
        found[place] = average / weight
    return found


def thin(series: Points, most: int = MOST_POINTS) -> Points:
    """At most so many points: of each stretch of the line its lowest and its highest, so that no spike is lost."""
    steps, values = series
    if len(steps) <= most:
        return series
    stretches = np.array_split(np.arange(len(steps)), most // 2)
    kept = [sorted({part[values[part].argmin()], part[values[part].argmax()]}) for part in stretches]
    places = np.concatenate(kept)
    return steps[places], values[places]


def last_figures(records: Sequence[Record]) -> dict[str, Any]:
    """Where a run stands.

    Returns:
        steps, loss_first, loss_last, heldout_loss_first, heldout_loss_last, heldout_groups (name → first and last
        loss), tokens, learnt_tokens, tokens_per_second, mfu (None where the hardware's peak isn't known), seconds
        (of steps and evaluations), data_wait (part of the steps' time), checkpoint_stall (seconds), restarts,
        incidents, and what the last start said: workers, device, parameters, trained_parameters.
    """
    steps, evaluations = of_kind(records, "step"), of_kind(records, "evaluation")
    starts = of_kind(records, "start")
    start = starts[-1] if starts else {}
    heldout = points(evaluations, "heldout_loss")[1]
    losses = points(steps, "loss")[1]
    busy, tokens = _sum(steps, "seconds"), int(_sum(steps, "tokens"))
    rate = tokens / busy if busy else None
    peak, flops = start.get("peak_flops"), start.get("flops_per_token")
    return {
        "steps": steps[-1]["step"] if steps else 0,
        "loss_first": float(losses[0]) if len(losses) else None,
        "loss_last": float(losses[-1]) if len(losses) else None,
        "heldout_loss_first": float(heldout[0]) if len(heldout) else None,
        "heldout_loss_last": float(heldout[-1]) if len(heldout) else None,
        "heldout_groups": {name: [float(v[0]), float(v[-1])] for name, (_, v) in groups(evaluations).items()},
        "tokens": tokens,
        "learnt_tokens": int(_sum(steps, "learnt")),
        "tokens_per_second": round(rate, 1) if rate else None,
        "mfu": round(rate * flops / peak, 4) if rate and flops and peak else None,
        "seconds": round(busy + _sum(evaluations, "seconds"), 1),
        "data_wait": round(_sum(steps, "data_wait") / busy, 5) if busy else None,
        "checkpoint_stall": round(_sum(steps, "checkpoint_stall"), 2),
        "restarts": max(0, len(starts) - 1),
        "incidents": len(of_kind(records, "incident")),
        **{name: start.get(name) for name in ("workers", "device", "parameters", "trained_parameters")},
    }


def _sum(records: Sequence[Record], key: str) -> float:
    return float(sum(record[key] for record in records))
