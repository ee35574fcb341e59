"""Memory of a worker by what holds it, for each ZeRO stage, from the recipe and the model's shape alone.

P are all parameters, T those that are trained, N the workers, b the bytes of the recipe's precision.
"""

from __future__ import annotations

from dataclasses import dataclass

from koala_ray.plan.hardware import GIGA, assumption
from koala_ray.plan.shape import ModelShape
from koala_ray.recipe import Recipe

STAGES = (0, 1, 2, 3)
BYTES = {"float32": 4, "bfloat16": 2}
BUCKET = 500_000_000
"""Elements of DeepSpeed's ``reduce_bucket_size`` (deepspeed.runtime.zero.config, 0.19.8)."""
LIVE = 1_000_000_000 + 50_000_000
"""Elements that ZeRO-3 keeps gathered at most: ``stage3_max_live_parameters`` and ``stage3_prefetch_bucket_size``."""
SUB_GROUP = 1_000_000_000
"""Elements that ZeRO-3's optimizer steps over at a time: ``sub_group_size``."""


@dataclass(frozen=True)
class Footprint:
    """Bytes on one GPU, and ``host`` on one node."""

    weights: float
    gradients: float
    step_gradients: float
    """The gradients' float32 copy that the optimizer steps with; there when no activations are."""
    optimizer: float
    activations: float
    logits: float
    buffers: float
    host: float
    """What offloading puts into the node's memory."""

    @property
    def peak(self) -> float:
        """The larger of two moments: the backward pass, and the optimizer's step."""
        always = self.weights + self.gradients + self.optimizer + self.buffers
        return always + max(self.activations + self.logits, self.step_gradients)

    def parts(self) -> dict[str, float]:
        """Each part at its largest, in GB; their sum is above the peak, since not all are there at once."""
        sizes = {
            "weights": self.weights,
            "gradients": self.gradients + self.step_gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "logits": self.logits,
            "buffers": self.buffers,
        }
        return {name: round(size / GIGA, 3) for name, size in sizes.items()}


def footprint(shape: ModelShape, recipe: Recipe, stage: int, nodes: int = 1) -> Footprint:
    """What a worker holds, should the recipe run at a ZeRO stage.

    Weights, gradients and AdamW's state are 2 + 2 + 12 bytes a parameter in bfloat16 (Rajbhandari et al. 2020,
    ZeRO, section 3.1), each divided by N from the stage on that shards it. DeepSpeed adds a float32 copy of the
    gradients in the optimizer's step: of a worker's whole part, in ZeRO-3 of a sub-group of it.

    Args:
        shape: the base model's.
        recipe: gives all settings but the stage, which is not looked at.
        stage: DeepSpeed's ZeRO stage.
        nodes: machines that the workers are spread over.
    """
    train = recipe.train
    width, workers = BYTES[train.precision], train.workers
    everything, trained = shape.parameters, trained_parameters(shape, recipe)
    if recipe.lora.rank:
        everything += trained
    optimizer_offloaded = train.offload_optimizer and stage >= 1
    weights_offloaded = train.offload_weights and stage == 3
    mine = trained / (workers if stage >= 1 else 1)
    state = mine * state_bytes(train.precision, stage)
    held = trained * width / (workers if stage >= 2 else 1)
    # ZeRO-1 keeps whole gradients on the GPU even where the optimizer is elsewhere.
    gradients = 0.0 if optimizer_offloaded and stage >= 2 else held
    copied = mine if stage < 3 else min(mine, SUB_GROUP)
    wrapped = stage >= 1 or train.precision == "bfloat16"
    weights = everything * width / (workers if stage == 3 else 1)
    tokens = train.micro_rows * recipe.tokens.context
    return Footprint(
        weights=0.0 if weights_offloaded else weights,
        gradients=gradients,
        step_gradients=4 * copied if wrapped and not optimizer_offloaded else 0.0,
        optimizer=0.0 if optimizer_offloaded else state,
        activations=activation_bytes(shape, tokens, width, train.activation_checkpointing),
        logits=logit_bytes(shape, recipe, tokens, width),
        buffers=buffer_bytes(everything, trained, recipe, stage),
        host=workers / nodes * (optimizer_offloaded * (state + 4 * mine) + weights_offloaded * weights),
    )


def trained_parameters(shape: ModelShape, recipe: Recipe) -> int:
    """Parameters that are trained: all of them, or the adapters'."""
    if recipe.lora.rank:
        return shape.adapter_parameters(recipe.lora.rank, recipe.lora.targets)
    return shape.parameters


def state_bytes(precision: str, stage: int) -> int:
    """Bytes a trained parameter of AdamW's moments and, where DeepSpeed wraps the optimizer, of its float32 weight.

    In float32 ZeRO-0 steps on the model's own weights; from ZeRO-1 on DeepSpeed keeps a copy of them.
    """
    return 8 if precision == "float32" and stage == 0 else 12


def checkpoint_bytes(shape: ModelShape, recipe: Recipe) -> float:
    """Bytes of a whole checkpoint, over all workers: each trained weight and AdamW's two moments, in float32."""
    return 12.0 * trained_parameters(shape, recipe)


def activation_bytes(shape: ModelShape, tokens: int, width: int, checkpointed: bool) -> float:
    """Bytes of activations on the way back: what was kept, a layer's worth of gradients and, where activations are
    recomputed, a layer's worth of those.
    """
    working = layer_bytes(shape, width) * (2 if checkpointed else 1)
    return kept_bytes(shape, tokens, width, checkpointed) + tokens * working


def kept_bytes(shape: ModelShape, tokens: int, width: int, checkpointed: bool) -> float:
    """Bytes that the forward pass of the layers, and of the norm after them, keeps for the backward pass.

    Args:
        shape: the model's.
        tokens: of a micro-batch.
        width: bytes of the precision.
        checkpointed: whether activations are recomputed: a layer then keeps its input alone.
    """
    layer = width * shape.hidden if checkpointed else layer_bytes(shape, width)
    return tokens * (shape.layers * layer + (4 + 2 * width) * shape.hidden)


def layer_bytes(shape: ModelShape, width: int) -> int:
    """Bytes that a decoder layer keeps for a token.

    Counted as Korthikanti et al. 2022 do, for a Llama in transformers with attention that keeps no scores, without
    dropout: two norms' inputs in float32 and, normalized, in the precision (2·4h + 2·bh); the norms' outputs (2·bh);
    queries, keys, values and what attention gives (b(2a + 2k)); the MLP's gate, its activation, the other branch and
    their product (4·bf). h is hidden, f intermediate, a and k the widths of all heads and of all key heads, b the
    bytes of the precision.
    """
    attention = 2 * shape.attention_width + 2 * shape.key_value_width
    return 8 * shape.hidden + width * (4 * shape.hidden + attention + 4 * shape.intermediate)


def logit_bytes(shape: ModelShape, recipe: Recipe, tokens: int, width: int) -> float:
    """Bytes of the loss: a chunk's logits in the precision, in float32 and, as their gradient, in the precision
    again; the states that the head reads and their gradients; the gradient of the head's weight in float32 and in
    the precision, unless it is frozen (see :mod:`koala_ray.train.loss`).

    Every token is taken as learnt: a micro-batch of answers alone may come.
    """
    chunk = min(recipe.train.loss_chunk, tokens)
    each = 4 if width == 4 else 4 + 2 * width
    states = 2 * tokens * shape.hidden * width
    head = 0 if recipe.lora.rank else shape.table * (4 if width == 4 else 4 + width)
    return float(chunk * shape.vocabulary * each + states + head)


def buffer_bytes(everything: int, trained: int, recipe: Recipe, stage: int) -> float:
    """Bytes of DeepSpeed's buckets and gathered weights, and on a GPU of CUDA's context.

    A bucket holds gradients on their way: two of them in ZeRO 1 and 2 where exchange and backward overlap. ZeRO-3
    gathers weights up to ``stage3_max_live_parameters``. On a CPU untouched pages of a bucket cost nothing.
    """
    on_gpu, width = recipe.train.gpus_per_worker > 0, BYTES[recipe.train.precision]
    bucket = width * (BUCKET if on_gpu and stage >= 1 else min(BUCKET, trained))
    context = GIGA * assumption("gpu_context_gb").value if on_gpu else 0.0
    if stage == 0:
        return context + (bucket if recipe.train.workers > 1 else 0)
    if stage == 3:
        return context + bucket + width * min(everything, LIVE)
    return context + bucket * (2 if on_gpu else 1)
