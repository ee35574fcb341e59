"""The plan's formulas beside what others publish: speed of training runs, and DeepSpeed's memory estimators.

Speed, twice: with the row's own MFU (that checks the FLOPs of a token; the row's convention counts every token of
the context as attended to), and with the plan's efficiency for the device, its optimizer step and its exchange.
The efficiencies are fitted to the MPT rows, so these show how well they are fitted; the Llama rows are what the
allowance for layers without fused kernels rests on. Memory: weights, gradients and optimizer.

Not checked here: activations in a GPU's memory, which needs one. tests/plan/test_memory.py counts the tensors that
autograd keeps for the backward pass instead.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from measure import markdown

from koala_ray.plan.flops import training_flops
from koala_ray.plan.hardware import Cluster, devices
from koala_ray.plan.memory import footprint
from koala_ray.plan.shape import shape_of
from koala_ray.plan.step_time import exposed_seconds, optimizer_seconds
from koala_ray.recipe import Recipe, TrainSettings
from koala_ray.recipe_file import load_recipe

MPT = "MPT, FSDP"
"""mosaicml/llm-foundry, scripts/train/benchmarking/README.md; each row with the parameters that it states."""


@dataclass(frozen=True)
class Published:
    """A published training run: a model's shape, how it was run, and how fast."""

    model: str
    device: str
    gpus: int
    parameters: float
    layers: int
    width: int
    sequence: int
    micro: int
    accumulation: int
    checkpointed: bool
    tokens_per_second: float
    """Of one GPU."""
    mfu: float | None
    """As published; None where nobody says."""

    @property
    def flops(self) -> float:
        """Of a token, by the convention of published figures: every token attends to the whole sequence."""
        return training_flops(int(self.parameters), 0, self.layers, self.width, self.sequence)

    def by_own_mfu(self) -> float | None:
        """Tokens per second of a GPU from the row's MFU."""
        return devices()[self.device].peak["bfloat16"] * self.mfu / self.flops if self.mfu else None

    def by_plan(self, allowed: bool) -> float:
        """Tokens per second of a GPU as the plan has it: ZeRO-3, which is FSDP's full sharding, in one node.

        Args:
            allowed: with the allowance, as `koala-ray plan` counts.
        """
        device = devices()[self.device]
        cluster = Cluster(device, 1, 8)
        tokens = self.micro * self.accumulation * self.sequence
        efficiency = device.published_efficiency(int(self.parameters), self.checkpointed)
        if allowed:
            efficiency *= device.allowance.value
        compute = tokens * self.flops / (device.peak["bfloat16"] * efficiency)
        train = TrainSettings(
            workers=8,
            gpus_per_worker=1,
            precision="bfloat16",
            micro_rows=self.micro,
            batch_rows=8 * self.micro * self.accumulation,
        )
        count = int(self.parameters)
        exposed = exposed_seconds(count, count, 3, train, cluster, compute)
        return tokens / (compute + exposed + optimizer_seconds(count, 3, train, cluster))


PUBLISHED = [
    Published(f"1.3B {MPT}", "A100-80GB", 8, 1315950592, 24, 2048, 2048, 14, 4, False, 20513, 0.5986),
    Published(f"2.7B {MPT}", "A100-80GB", 8, 2651837440, 32, 2560, 2048, 10, 2, False, 10811, 0.6211),
    Published(f"7B {MPT}", "A100-80GB", 8, 6658859008, 32, 4096, 2048, 6, 2, False, 4641, 0.6423),
    Published(f"7B {MPT}", "A100-80GB", 8, 6654664704, 32, 4096, 1024, 64, 2, True, 4357, 0.5801),
    Published(f"7B {MPT}", "A100-80GB", 8, 6667247616, 32, 4096, 4096, 16, 2, True, 3684, 0.5484),
    Published(f"**13B {MPT}**", "A100-80GB", 8, 12853954560, 40, 5120, 2048, 2, 3, False, 2262, 0.5957),
    Published(f"13B {MPT}", "A100-80GB", 8, 12864440320, 40, 5120, 4096, 10, 3, True, 2060, 0.5762),
    Published(f"13B {MPT}", "A100-80GB", 8, 12848711680, 40, 5120, 1024, 40, 3, True, 2330, 0.5948),
    Published(f"30B {MPT}", "A100-80GB", 8, 29975214080, 48, 7168, 2048, 3, 21, True, 916, 0.553),
    Published(f"7B {MPT}", "A100-40GB", 8, 6658859008, 32, 4096, 2048, 12, 4, True, 3679, 0.5092),
    Published(f"13B {MPT}", "A100-40GB", 8, 12853954560, 40, 5120, 2048, 4, 16, True, 1668, 0.4394),
    Published(f"1.3B {MPT}", "H100-80GB", 8, 1315950592, 24, 2048, 2048, 14, 1, False, 45455, 0.4182),
    Published(f"7B {MPT}", "H100-80GB", 8, 6658859008, 32, 4096, 2048, 6, 1, False, 10643, 0.4644),
    Published(f"7B {MPT}", "H100-80GB", 8, 6667247616, 32, 4096, 4096, 16, 2, True, 8611, 0.4042),
    Published(f"13B {MPT}", "H100-80GB", 8, 12853954560, 40, 5120, 2048, 2, 1, False, 4792, 0.3979),
    Published(f"13B {MPT}", "H100-80GB", 8, 12864440320, 40, 5120, 4096, 10, 3, True, 4717, 0.416),
    Published(f"30B {MPT}", "H100-80GB", 8, 29975214080, 48, 7168, 2048, 3, 21, True, 2002, 0.3811),
    Published("7B Llama-2, fms-fsdp", "A100-80GB", 128, 6.607e9, 32, 4096, 4096, 2, 1, False, 3760, 0.57),
    Published("13B Llama-2, fms-fsdp", "A100-80GB", 128, 12.852e9, 40, 5120, 4096, 1, 1, False, 1700, None),
    Published("8B Llama-3.1, torchtitan", "H100-80GB", 8, 7.505e9, 32, 4096, 8192, 2, 1, True, 5762, 0.33),
    Published("8B Llama-3.1, torchtitan + compile", "H100-80GB", 8, 7.505e9, 32, 4096, 8192, 2, 1, True, 6667, 0.39),
]
"""fms-fsdp: README, hybrid sharding inside a node; the 7B's MFU from PyTorch's and IBM's blog. torchtitan:
benchmarks/llama3_h100_202412_torchtitan.md, H100 with HBM2e at 500 W, MFU against the full H100's peak."""


def off(found: float | None, published: float) -> str:
    """By how much a figure is above or below a published one."""
    return "–" if found is None else f"{100 * (found / published - 1):+.1f} %".replace("-", "−")


def speed_table() -> str:
    """Each published row beside the two predictions."""
    rows = []
    for row in PUBLISHED:
        fitted, allowed = row.by_plan(allowed=False), row.by_plan(allowed=True)
        published = row.tokens_per_second
        rows.append(
            [
                f"{row.model}, {row.sequence}",
                f"{row.gpus}×{row.device}",
                "yes" if row.checkpointed else "no",
                f"{published:,.0f}",
                f"{100 * row.mfu:.1f} %" if row.mfu else "–",
                off(row.by_own_mfu(), published),
                f"{fitted:,.0f}",
                off(fitted, published),
                f"{allowed:,.0f}",
                off(allowed, published),
            ]
        )
    head = ["run, sequence", "on", "act-ckpt", "tok/s/GPU", "MFU", "from that MFU"]
    return markdown([*head, "fitted", "off", "with the allowance", "off"], rows)


def memory_table() -> str:
    """Model states on 8 GPUs beside DeepSpeed's estimators."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as zero3
        from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as zero2

    rows: list[Sequence[object]] = []
    for name in ("koala-all-7b", "koala-all-13b"):
        recipe = load_recipe(name)
        shape = shape_of(recipe.model.base)
        count = shape.parameters
        estimates = {
            0: (18 + 2) * count,
            1: 2 * count + 2 * count + 16 * count / 8,
            2: zero2(count, 8, 1, cpu_offload=False)[1],
            3: zero3(count, shape.table, 8, 1, cpu_offload=False, cpu_offload_params=False)[1],
        }
        for stage, estimate in estimates.items():
            ours = states(recipe, stage)
            source = "its estimator" if stage >= 2 else "its 2 + 2 + 16 B, added up by hand"
            rows.append(
                [f"{name}, ZeRO-{stage}", f"{ours:.1f}", f"{estimate / 1e9:.1f}", off(ours, estimate / 1e9), source]
            )
    return markdown(["model states, GB a GPU of 8", "plan", "DeepSpeed", "off", "from"], rows)


def states(recipe: Recipe, stage: int) -> float:
    """GB of weights, gradients and optimizer on one of 8 GPUs."""
    parts = footprint(shape_of(recipe.model.base), recipe, stage).parts()
    return parts["weights"] + parts["gradients"] + parts["optimizer"]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(speed_table())
    print()
    print(memory_table())


if __name__ == "__main__":
    main()
