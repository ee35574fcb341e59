"""Machines, prices and efficiencies: one data file, each figure with its source and date."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
import yaml

from koala_ray.errors import KoalaError

Precision = Literal["float32", "bfloat16"]
GIGA = 1e9
TERA = 1e12


@dataclass(frozen=True)
class Source:
    """Where a figure comes from."""

    kind: str
    """datasheet, claim, calc, measured or assumption."""
    date: str
    text: str


@dataclass(frozen=True)
class Figure:
    """A number with its source."""

    value: float
    source: Source


@dataclass(frozen=True)
class Device:
    """One GPU of a kind, or one CPU core. Bytes, bytes per second (one direction) and FLOPs per second."""

    name: str
    known_as: tuple[str, ...]
    """Parts of the names by which drivers call it."""
    peak: Mapping[str, float]
    """FLOPs per second by precision, dense."""
    memory: float
    memory_bandwidth: float
    link: float
    """To the other devices of its node."""
    host_link: float
    """To its node's memory."""
    network: float
    """From its node to others; for the whole node."""
    efficiency: Mapping[str, Any]
    allowance: Figure
    """The part of the published efficiency that our stack is taken to reach."""
    hazard: Figure | None
    """Reclaims per node-hour, where it is another than the general assumption."""
    spot: tuple[Figure, ...]
    """Dollars per hour; the default first."""
    on_demand: tuple[Figure, ...]
    sources: Mapping[str, Source]
    """By group of figures: peak, memory, link, network, efficiency."""

    @property
    def is_gpu(self) -> bool:
        """Whether it has memory and a link of its own."""
        return self.name != "cpu"

    def published_efficiency(self, parameters: int, checkpointed: bool) -> float:
        """The MFU that published runs reach on it, between sizes by the parameters' logarithm."""
        table = self.efficiency
        values = table["checkpointed" if checkpointed else "plain"]
        return float(np.interp(math.log(parameters), np.log(table["sizes"]), values))


@dataclass(frozen=True)
class Cluster:
    """So many nodes with so many devices of one kind."""

    device: Device
    nodes: int
    per_node: int

    @property
    def workers(self) -> int:
        """Devices, each with a worker."""
        return self.nodes * self.per_node

    @property
    def name(self) -> str:
        """As ``--on`` takes it."""
        return f"{f'{self.nodes}x' if self.nodes > 1 else ''}{self.per_node}x{self.device.name}"

    @property
    def link(self) -> float:
        """Nominal bytes per second of the slowest link that a ring over all devices crosses."""
        return min(self.device.link, self.device.network) if self.nodes > 1 else self.device.link


@cache
def _data() -> dict[str, Any]:
    text = (resources.files("koala_ray.plan") / "hardware.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


@cache
def sources() -> dict[str, Source]:
    """All sources by their short names."""
    return {name: Source(item["kind"], str(item["date"]), item["text"]) for name, item in _data()["sources"].items()}


@cache
def assumption(name: str) -> Figure:
    """A figure of the data file's assumptions, in the unit that its name says."""
    return _figure(_data()["assumptions"][name])


def hazards() -> list[Figure]:
    """Reclaims per node-hour that are shown side by side, the lowest first."""
    return [_figure(item) for item in _data()["hazards"]]


def notices() -> list[Figure]:
    """Seconds between a reclaim's announcement and the reclaim, the shortest first."""
    return [_figure(item) for item in _data()["notices"]]


def koala_claim() -> dict[str, Any]:
    """Koala's own figures: base, machines, epochs, hours, dollars; the best published MFU; where they stand."""
    claim = _data()["koala_claim"]
    return {**claim, "source": asdict(sources()[claim["source"]])}


@cache
def devices() -> dict[str, Device]:
    """All devices by name."""
    return {name: _device(name, item) for name, item in _data()["devices"].items()}


def find_device(reported: str) -> Device | None:
    """The device that a driver calls by a name such as ``NVIDIA A100-SXM4-80GB``, if the data file has it."""
    for device in devices().values():
        if device.is_gpu and any(part.lower() in reported.lower() for part in (*device.known_as, device.name)):
            return device
    return None


def parse_cluster(on: str) -> Cluster:
    """The cluster of a text such as ``8xA100-80GB``, ``2x8xA100-80GB`` (two nodes) or ``1xcpu``.

    Raises:
        KoalaError: the text is not of this form, or there is no such device.
    """
    match = re.fullmatch(r"(?:(\d+)x)?(\d+)x([A-Za-z].*)", on.strip())
    if not match or "0" in (match[1], match[2]):
        raise KoalaError(
            "this doesn't say which machines",
            where=f"--on {on}",
            mend="write how many of which device, 8xA100-80GB, or nodes first, 2x8xA100-80GB",
        )
    nodes, count, name = int(match[1] or 1), int(match[2]), match[3]
    by_name = {known.lower(): device for device in devices().values() for known in (device.name, *device.known_as)}
    if name.lower() not in by_name:
        close = difflib.get_close_matches(name.lower(), by_name, n=1, cutoff=0.5)
        guess = f"did you mean {by_name[close[0]].name}? " if close else ""
        raise KoalaError(
            f"the plan knows no device {name!r}", where=f"--on {on}", mend=f"{guess}there are: {', '.join(devices())}"
        )
    return Cluster(by_name[name.lower()], nodes, count)


def _device(name: str, item: Mapping[str, Any]) -> Device:
    groups = ("peak_tflops", "memory", "link", "network", "efficiency")
    return Device(
        name=name,
        known_as=tuple(item["known_as"]),
        peak={kind: TERA * value for kind, value in item["peak_tflops"].items() if kind != "source"},
        memory=GIGA * item["memory"]["gb"],
        memory_bandwidth=GIGA * item["memory"]["gb_per_second"],
        link=GIGA * item["link"]["gb_per_second"],
        host_link=GIGA * item["link"]["host_gb_per_second"],
        network=GIGA * item["network"]["gb_per_second"],
        efficiency={key: item["efficiency"][key] for key in ("sizes", "plain", "checkpointed")},
        allowance=_figure(item["allowance"]),
        hazard=_figure(item["hazard"]) if "hazard" in item else None,
        spot=_prices(item, "spot"),
        on_demand=_prices(item, "on_demand"),
        sources={group.removesuffix("_tflops"): sources()[item[group]["source"]] for group in groups},
    )


def _prices(item: Mapping[str, Any], kind: str) -> tuple[Figure, ...]:
    """The newest first, and of one date the dearest: a plan should rather cost too much."""
    prices = [Figure(float(price["dollars"]), sources()[price["source"]]) for price in item.get(kind, [])]
    return tuple(sorted(prices, key=lambda price: (price.source.date, price.value), reverse=True))


def given(value: float) -> Figure:
    """A figure that the user gave."""
    return Figure(value, Source("given", "", "as given"))


def shown(figure: Figure) -> dict[str, Any]:
    """A figure as JSON values: value, kind, date, text."""
    return {"value": round(figure.value, 6), **asdict(figure.source)}


def _figure(item: Mapping[str, Any]) -> Figure:
    return Figure(float(item["value"]), sources()[item["source"]])
