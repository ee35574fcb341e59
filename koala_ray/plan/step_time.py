"""Seconds of an optimizer step: what is computed, what is exchanged and not hidden, and the optimizer's own part."""

from __future__ import annotations

from dataclasses import dataclass

from koala_ray.plan.flops import flops_per_token
from koala_ray.plan.hardware import Cluster, assumption
from koala_ray.plan.memory import BYTES, trained_parameters
from koala_ray.plan.shape import ModelShape
from koala_ray.recipe import Recipe, TrainSettings

STEP_BYTES = 52
"""Bytes that a step moves for a parameter: the gradient converted (2 + 4), its norm taken (4), clipped (4 + 4);
AdamW reads gradient, weight and two moments (16) and writes three of them (12); the weight is written back (4 + 2)."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of the parts of a step; they follow each other."""

    compute: float
    exchange: float
    """Collectives that forward and backward don't hide."""
    optimizer: float

    @property
    def total(self) -> float:
        """The whole step."""
        return self.compute + self.exchange + self.optimizer


def step_time(
    shape: ModelShape, recipe: Recipe, stage: int, cluster: Cluster, tokens: float, attended: float, efficiency: float
) -> StepTime:
    """The time of one step of the recipe at a ZeRO stage.

    Args:
        shape: the base model's.
        recipe: its workers are the cluster's.
        stage: DeepSpeed's ZeRO stage; the recipe's own is not looked at.
        cluster: the machines.
        tokens: in a global batch.
        attended: positions that a token attends to in the mean.
        efficiency: MFU while forward and backward run.
    """
    train = recipe.train
    flops = flops_per_token(shape, attended, recipe.lora) * tokens / cluster.workers
    compute = flops / (peak(cluster, train) * efficiency)
    trained = trained_parameters(shape, recipe)
    exchange = exposed_seconds(shape.parameters, trained, stage, train, cluster, compute)
    return StepTime(compute, exchange, optimizer_seconds(trained, stage, train, cluster))


def peak(cluster: Cluster, train: TrainSettings) -> float:
    """FLOPs per second of one worker's device; on a CPU that of its cores together."""
    cores = 1.0 if cluster.device.is_gpu else train.cpus_per_worker
    return cluster.device.peak[train.precision] * cores


def exposed_seconds(
    parameters: int, trained: int, stage: int, train: TrainSettings, cluster: Cluster, compute: float
) -> float:
    """Seconds of exchange in a step that nothing hides.

    ZeRO 1 and 2 gather the new weights after the step, with nothing to hide it behind.

    Args:
        parameters: all of them.
        trained: those with a gradient.
        stage: DeepSpeed's ZeRO stage.
        train: gives precision and accumulation.
        cluster: gives the slowest link.
        compute: seconds of forward and backward, behind which a part of the exchange hides.
    """
    during, after = exchanged_bytes(parameters, trained, stage, train)
    bandwidth = cluster.link * assumption("link_reached").value
    overlap = assumption("overlap").value if cluster.device.is_gpu else 0.0
    return max(during / bandwidth - compute, (1 - overlap) * during / bandwidth) + after / bandwidth


def exchanged_bytes(parameters: int, trained: int, stage: int, train: TrainSettings) -> tuple[float, float]:
    """Bytes that pass a worker's link in a step: while it computes, and after the optimizer's step.

    A ring of N workers moves (N − 1)/N of what is gathered or scattered through each link, and twice that to reduce
    for all (Patarasuk and Yuan 2009). ZeRO-0 reduces the gradients once a step for all, ZeRO-1 to their owners;
    ZeRO-2 does so in every micro-batch, since it keeps its own part only; 1 and 2 then gather the new weights.
    ZeRO-3 gathers the weights twice in every micro-batch, and scatters gradients as ZeRO-2 does.
    """
    width, micro = BYTES[train.precision], train.accumulation
    during = {
        0: 2 * width * trained,
        1: width * trained,
        2: width * trained * micro,
        3: (width * trained + 2 * width * parameters) * micro,
    }[stage]
    after = width * trained if stage in (1, 2) else 0
    around = (train.workers - 1) / train.workers
    return during * around, after * around


def optimizer_seconds(trained: int, stage: int, train: TrainSettings, cluster: Cluster) -> float:
    """Seconds of AdamW's step over a worker's part: memory traffic alone.

    Offloaded, the node's CPUs step over all of its workers' parts; gradients go down and weights come up.
    """
    mine = trained / (cluster.workers if stage >= 1 else 1)
    device = cluster.device
    if train.offload_optimizer and stage >= 1:
        on_host = STEP_BYTES * mine * cluster.per_node / (1e9 * assumption("host_gb_per_second").value)
        return on_host + 2 * BYTES[train.precision] * mine / device.host_link
    return STEP_BYTES * mine / (device.memory_bandwidth * assumption("memory_bandwidth_reached").value)
