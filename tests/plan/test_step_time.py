from __future__ import annotations

import pytest

from koala_ray.plan.hardware import parse_cluster
from koala_ray.plan.shape import shape_of
from koala_ray.plan.step_time import StepTime, exchanged_bytes, exposed_seconds, optimizer_seconds, step_time
from koala_ray.recipe_file import load_recipe

SHAPE = shape_of("huggyllama/llama-13b")
NODE = parse_cluster("8xA100-80GB")


def timed(*sets: str, stage: int = 3, on: str = "8xA100-80GB", tokens: float = 65536, mfu: float = 0.6) -> StepTime:
    recipe = load_recipe("koala-all-13b", [f"train.workers={parse_cluster(on).workers}", *sets])
    return step_time(SHAPE, recipe, stage, parse_cluster(on), tokens, 350, mfu)


def test_computing_takes_what_the_flops_take() -> None:
    found = timed(mfu=0.5)
    flops = 6 * SHAPE.multiplied + 12 * 40 * 5120 * 350
    assert found.compute == pytest.approx(65536 * flops / (8 * 312e12 * 0.5))
    assert found.total == found.compute + found.exchange + found.optimizer


def test_mpts_published_step_with_the_published_shape() -> None:
    # 13B, 8 A100-80GB, 2,048 tokens, micro-batch 2, accumulation 3, full sharding: 2,262 tokens/s a GPU.
    cluster, count, tokens = NODE, 12_853_954_560, 2 * 3 * 2048
    train = load_recipe("koala-all-13b", ["train.batch_rows=48"]).train
    flops = 6 * count + 12 * 40 * 5120 * 2048
    compute = tokens * flops / (312e12 * cluster.device.published_efficiency(count, checkpointed=False))
    step = compute + exposed_seconds(count, count, 3, train, cluster, compute)
    step += optimizer_seconds(count, 3, train, cluster)
    assert tokens / step == pytest.approx(2262, rel=0.1)


def test_small_steps_pay_more_for_exchange_and_optimizer() -> None:
    large, small = timed("train.batch_rows=256", tokens=8 * 65536), timed("train.batch_rows=16", tokens=32768)
    assert (small.total - small.compute) / small.total > (large.total - large.compute) / large.total


def test_exchanged_bytes_of_the_stages() -> None:
    train = load_recipe("koala-all-13b", ["train.batch_rows=64"]).train
    assert train.accumulation == 4
    unit = 2 * SHAPE.parameters * 7 / 8
    count = SHAPE.parameters
    found = {stage: exchanged_bytes(count, count, stage, train) for stage in range(4)}
    assert found == {
        0: (pytest.approx(2 * unit), 0),
        1: (pytest.approx(unit), pytest.approx(unit)),
        2: (pytest.approx(4 * unit), pytest.approx(unit)),
        3: (pytest.approx(12 * unit), 0),
    }


def test_one_worker_exchanges_nothing() -> None:
    for stage in range(4):
        assert timed("train.workers=1", stage=stage, on="1xA100-80GB").exchange == 0


def test_two_nodes_exchange_over_their_network() -> None:
    near, far = timed(stage=1), timed(stage=1, on="2x8xA100-80GB")
    assert far.exchange > 4 * near.exchange


def test_what_doesnt_hide_behind_computing_shows() -> None:
    train = load_recipe("koala-all-13b").train
    count = SHAPE.parameters
    during, _ = exchanged_bytes(count, count, 3, train)
    whole = during / (NODE.link * 0.75)
    assert exposed_seconds(count, count, 3, train, NODE, compute=0.0) == pytest.approx(whole)
    assert exposed_seconds(count, count, 3, train, NODE, compute=100.0) == pytest.approx(0.2 * whole)


def test_offloading_makes_the_optimizer_slower() -> None:
    assert timed("train.offload_optimizer=true").optimizer > 10 * timed().optimizer


def test_a_cpus_cores_add_up() -> None:
    cluster = parse_cluster("1xcpu")
    shape = shape_of("smollm2-135m")
    one, two = (
        step_time(shape, load_recipe("koala-smol", [f"train.cpus_per_worker={cores}"]), 0, cluster, 1024, 50, 0.7)
        for cores in (1, 2)
    )
    assert one.compute == pytest.approx(2 * two.compute)
