from __future__ import annotations

import pytest

from koala_ray.errors import KoalaError
from koala_ray.plan.hardware import (
    assumption,
    devices,
    find_device,
    hazards,
    koala_claim,
    notices,
    parse_cluster,
    sources,
)
from koala_ray.plan.shape import shape_of


@pytest.mark.parametrize(
    ("text", "name", "nodes", "workers"),
    [
        ("8xA100-80GB", "A100-80GB", 1, 8),
        ("2x8xA100-80GB", "A100-80GB", 2, 16),
        ("1xcpu", "cpu", 1, 1),
        ("4xh100-80gb", "H100-80GB", 1, 4),
        ("1xH100", "H100-80GB", 1, 1),
    ],
)
def test_machines_are_read(text: str, name: str, nodes: int, workers: int) -> None:
    cluster = parse_cluster(text)
    assert (cluster.device.name, cluster.nodes, cluster.workers) == (name, nodes, workers)
    assert parse_cluster(cluster.name) == cluster


@pytest.mark.parametrize("text", ["", "A100-80GB", "8xB300", "0xA100-80GB", "8xA100-80GB, please", "8x8x8xA100-80GB"])
def test_other_machines_are_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(KoalaError) as refused:
        parse_cluster(text)
    assert text in refused.value.where
    assert "A100-80GB" in refused.value.mend


def test_a_device_close_to_the_name_is_offered() -> None:
    with pytest.raises(KoalaError) as refused:
        parse_cluster("8xA100-80")
    assert "did you mean A100-80GB?" in refused.value.mend


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA H100 80GB HBM3", "H100-80GB"),
        ("NVIDIA H200", "H200-141GB"),
        ("NVIDIA L40S", "L40S-48GB"),
        ("NVIDIA A10G", "A10G-24GB"),
    ],
)
def test_devices_are_found_as_drivers_call_them(reported: str, name: str) -> None:
    found = find_device(reported)
    assert found
    assert found.name == name


@pytest.mark.parametrize("reported", ["AMD EPYC 7B13 cpu", "NVIDIA GeForce GTX 1080", ""])
def test_other_devices_are_not_mistaken_for_one(reported: str) -> None:
    assert find_device(reported) is None


def test_every_figure_has_a_dated_source() -> None:
    for source in sources().values():
        assert source.kind in {"datasheet", "claim", "calc", "measured", "assumption"}
        assert source.date[:2] == "20"
        assert source.text
    used = {source for device in devices().values() for source in device.sources.values()}
    for device in devices().values():
        used |= {price.source for price in (*device.spot, *device.on_demand)} | {device.allowance.source}
        used |= {device.hazard.source} if device.hazard else set()
    names = ("hazard_per_node_hour", "restart_minutes", "checkpoint_gb_per_second", "link_reached", "overlap")
    names += ("memory_bandwidth_reached", "host_gb_per_second", "gpu_context_gb", "headroom", "fill", "dialogue_tokens")
    names += ("copy_gb_per_second",)
    used |= {assumption(name).source for name in names} | {figure.source for figure in (*hazards(), *notices())}
    used |= {sources()["koala"]}
    assert used == set(sources().values()), "a source that nothing uses, or a figure that no test knows"


def test_prices_begin_with_the_newest() -> None:
    spot = devices()["A100-80GB"].spot
    assert spot[0].value == 1.13
    assert [price.source.date for price in spot] == sorted((price.source.date for price in spot), reverse=True)


def test_efficiency_lies_between_the_sizes_that_were_published() -> None:
    device = devices()["A100-80GB"]
    small, middle, large = (
        device.published_efficiency(size, False) for size in (6_700_000_000, 9_000_000_000, 12_900_000_000)
    )
    assert large < middle < small
    assert device.published_efficiency(1000, False) == device.efficiency["plain"][0]
    for each in devices().values():
        table = each.efficiency
        assert len(table["sizes"]) == len(table["plain"]) == len(table["checkpointed"])
        assert sorted(table["sizes"]) == table["sizes"]


def test_a_ring_over_nodes_is_as_fast_as_its_slowest_link() -> None:
    assert parse_cluster("8xA100-80GB").link == 300e9
    assert parse_cluster("2x8xA100-80GB").link == 50e9


def test_koalas_claim_names_machines_and_a_model_that_are_known() -> None:
    claim = koala_claim()
    assert parse_cluster(claim["machines"]).workers == 8
    assert shape_of(claim["base"]).parameters == 13_015_864_320
