"""The model that is trained: a causal language model that takes packed rows and gives their loss.

Attention runs within each dialogue (:mod:`koala_ray.train.attention`); logits are never whole
(:mod:`koala_ray.train.loss`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from koala_ray.models.resolve import resolve
from koala_ray.recipe import LoraSettings, TrainSettings
from koala_ray.train.attention import NAME as ISOLATED
from koala_ray.train.attention import require_isolated
from koala_ray.train.batch import MicroBatch
from koala_ray.train.linear import use_onednn
from koala_ray.train.loss import liger_summed_loss, summed_loss, token_losses

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SummedLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]


class LearntHead(nn.Module):
    """The language model's head for learnt places: states and targets in, loss out.

    A module of its own, though it shares the head's weight: DeepSpeed gathers a module's weights (ZeRO-3) when
    the module is called.
    """

    def __init__(self, weight: nn.Parameter, chunk: int, loss: SummedLoss) -> None:
        super().__init__()
        self.weight = weight
        self._chunk, self._loss = chunk, loss

    def forward(self, states: torch.Tensor, targets: torch.Tensor, each: bool) -> torch.Tensor:
        """The summed loss, or each token's."""
        if each:
            return token_losses(states, self.weight, targets, self._chunk)
        return self._loss(states, self.weight, targets, self._chunk)


class DialogueModel(nn.Module):
    """A causal language model under the loss of packed dialogues."""

    def __init__(self, network: Any, settings: TrainSettings) -> None:
        super().__init__()
        self.network = network
        """The transformers model, or peft's with adapters in it."""
        self.head = LearntHead(self.causal.get_output_embeddings().weight, settings.loss_chunk, choose_loss(settings))

    @property
    def causal(self) -> PreTrainedModel:
        """The transformers model, with the adapters in its layers if there are any."""
        return self.network.get_base_model() if self.adapted else self.network

    @property
    def adapted(self) -> bool:
        """Whether low-rank adapters are trained."""
        return hasattr(self.network, "peft_config")

    def forward(self, batch: MicroBatch, each: bool = False) -> torch.Tensor:
        """The cross entropy of a micro-batch's learnt tokens, in float32.

        Args:
            batch: the packed rows.
            each: give one loss for each learnt token, (learnt,), without gradients, instead of their sum.
        """
        borders = torch.tensor([0, *batch.dialogue_lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        states = self.causal.base_model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            dialogue_lengths=batch.dialogue_lengths,
            dialogue_borders=borders.to(batch.input_ids.device, non_blocking=True),
            use_cache=False,
        ).last_hidden_state
        return self.head(states[0].index_select(0, batch.predictors), batch.targets, each)


def choose_loss(settings: TrainSettings) -> SummedLoss:
    """Liger's kernel on GPUs where it is installed, unless the recipe says otherwise; our own elsewhere."""
    if settings.loss == "liger" or (settings.loss == "auto" and settings.gpus_per_worker and find_spec("liger_kernel")):
        return liger_summed_loss
    return summed_loss


def load_model(base: str, settings: TrainSettings, lora: LoraSettings, deepspeed: dict[str, Any]) -> DialogueModel:
    """The base model, ready to train; under ZeRO-3 no worker ever holds it whole.

    Args:
        base: see :func:`koala_ray.models.resolve.resolve`.
        settings: the recipe's train settings.
        lora: the recipe's adapters.
        deepspeed: DeepSpeed's settings; ZeRO-3 shards the weights by them as they are read.

    Raises:
        KoalaError: there is no such model, or it can't keep packed dialogues apart.
    """
    from transformers.integrations import HfDeepSpeedConfig

    folder = resolve(base)  # a model that has to be made first is made whole
    sharding = None
    if settings.zero_stage == 3:
        from deepspeed import init_distributed

        talk_through_torch()
        init_distributed(dist_init_required=False)  # else DeepSpeed takes the world for one worker
        # transformers loads straight into shards for as long as this object lives.
        sharding = HfDeepSpeedConfig(deepspeed)
    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "attention_dropout"):
        config.attention_dropout = settings.dropout  # a base's own rate is none of the recipe's
    network: Any = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=DTYPES[settings.precision], attn_implementation=ISOLATED
    )
    del sharding
    require_isolated(network)
    # Where padding and end of sequence share an id, torch would keep that id's embedding from being trained.
    network.get_input_embeddings().padding_idx = None
    network.config.use_cache = False
    if settings.activation_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if lora.rank:
        network = with_adapters(network, lora)
    if not settings.gpus_per_worker:
        use_onednn(network)
    return DialogueModel(network, settings)


def talk_through_torch() -> None:
    """Keep DeepSpeed from compiling a shared-memory all-reduce for CPUs when it first starts; gloo does without.

    That takes 40 s, and a worker killed meanwhile leaves a compiler's lock that the next one waits on for ever.
    """
    from deepspeed.ops import __compatible_ops__ as ops

    ops["deepspeed_shm_comm"] = False


def with_adapters(network: PreTrainedModel, lora: LoraSettings) -> Any:
    """A model whose weights are frozen, with trainable low-rank adapters beside them (Hu et al. 2021)."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, config)
