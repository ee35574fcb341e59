"""Preflight: all that can't work in a recipe, its base model and its packed data, found before a worker starts.

No weights are loaded: :mod:`koala_ray.train.trial` sees without them what a model does with a packed row.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from koala_ray import storage
from koala_ray.errors import KoalaError, refuse
from koala_ray.models.resolve import resolve
from koala_ray.progress import say
from koala_ray.recipe import LoraSettings, Recipe
from koala_ray.steps import StepResult
from koala_ray.tokens.shards import read_plan
from koala_ray.tokens.step import TRAIN
from koala_ray.train.report import problems as report_problems
from koala_ray.train.trial import ANOTHER_MODEL, first_line, trial_problems, try_out, unfit_code, without_weights
from koala_ray.train.verify import data_problems, vocabulary_problems


def check(recipe: Recipe, tokens: StepResult) -> None:
    """Refuse a recipe that can't train its base model on a token step's rows, with all that is wrong at once.

    Raises:
        KoalaError: what is wrong, where, and how to mend it; a :class:`koala_ray.errors.KoalaErrors` if it is
            several things.
    """
    from koala_ray.quiet import quiet_transformers

    quiet_transformers()
    parts = (settings_problems(recipe), data_problems(recipe, tokens), model_problems(recipe, tokens))
    refuse([problem for part in parts for problem in _all_of(part)])
    steps = read_plan(storage.join(tokens.folder, TRAIN)).steps(recipe.train.batch_rows)
    steps = min(steps, recipe.train.max_steps or steps)
    if recipe.train.warmup_steps >= steps:
        say(f"train     the warm-up of {recipe.train.warmup_steps:,} steps takes the whole run of {steps:,}")
    if recipe.train.offload_optimizer and not recipe.train.gpus_per_worker:
        say("train     offloading saves nothing without GPUs, and its optimizer is compiled first: minutes, once")


def _all_of(problems: Iterator[KoalaError]) -> Iterator[KoalaError]:
    """What a check yields, and what it stumbles over: a base model that isn't there."""
    try:
        yield from problems
    except KoalaError as error:
        yield error


def settings_problems(recipe: Recipe) -> Iterator[KoalaError]:
    """What doesn't go together in the recipe by itself."""
    train = recipe.train
    if train.batch_rows % (train.workers * train.micro_rows):  # a recipe that was copied and changed isn't validated
        yield KoalaError(
            f"batch_rows {train.batch_rows} doesn't divide by {train.workers} workers × {train.micro_rows} micro_rows",
            where="train.batch_rows",
            mend=f"--set train.batch_rows={train.workers * train.micro_rows}, or a multiple of it",
        )
    if train.precision == "bfloat16" and not train.gpus_per_worker and slow_in_bfloat16():
        yield KoalaError(
            "this CPU has no AVX-512: it is some 40 times slower in bfloat16 than in float32",
            where="train.precision",
            mend="--set train.precision=float32, or train on GPUs: --set train.gpus_per_worker=1",
        )
    if train.offload_optimizer and train.zero_stage == 0:
        yield KoalaError(
            "DeepSpeed offloads the optimizer under ZeRO 1 to 3 only",
            where="train.offload_optimizer",
            mend="--set train.zero_stage=2, or --set train.offload_optimizer=false",
        )
    if train.offload_weights and train.zero_stage < 3:
        sharded = "" if recipe.lora.rank else "--set train.zero_stage=3, or "
        yield KoalaError(
            f"DeepSpeed offloads the weights under ZeRO-3 only, not under ZeRO-{train.zero_stage}",
            where="train.offload_weights",
            mend=f"{sharded}--set train.offload_weights=false",
        )
    if train.loss == "liger" and not (train.gpus_per_worker and find_spec("liger_kernel")):
        reason = "isn't installed" if train.gpus_per_worker else "runs on GPUs only"
        yield KoalaError(
            f"Liger's kernel {reason}", where="train.loss", mend="--set train.loss=auto, or pip install liger-kernel"
        )
    if recipe.cost.budget and recipe.cost.price is None:
        yield KoalaError(
            f"a budget of ${recipe.cost.budget:g} can't be kept without a price",
            where="cost.budget",
            mend="--set cost.price=DOLLARS, for an hour of one GPU (of one node without GPUs)",
        )
    yield from _adapter_settings(recipe)
    yield from report_problems(recipe.report)


def slow_in_bfloat16() -> bool:
    """Whether this machine's CPU, taken for that of the workers, has no fast bfloat16.

    Products of 768 × 768 matrices measured with oneDNN on one core that has all three: 0.03 times float32's speed
    with AVX2 alone, 0.7 times with AVX-512, 4 to 7 times with AVX-512 BF16.
    """
    import torch

    capabilities = torch.cpu.get_capabilities()
    return capabilities.get("architecture") == "x86_64" and not capabilities.get("avx512_bw")


def _adapter_settings(recipe: Recipe) -> Iterator[KoalaError]:
    lora = recipe.lora
    if lora.rank and recipe.train.zero_stage == 3:
        yield KoalaError(
            "adapters are not trained under ZeRO-3",
            where="train.zero_stage",
            mend="--set train.zero_stage=2, or train all weights: --set lora.rank=0",
        )
    given = [name for name in ("alpha", "dropout", "targets") if getattr(lora, name) != getattr(LoraSettings(), name)]
    if given and not lora.rank:
        yield KoalaError(
            f"lora.{given[0]} is given, but lora.rank is 0: all weights would be trained",
            where="lora.rank",
            mend=f"--set lora.rank=16, or leave out lora.{', lora.'.join(given)}",
        )


def model_problems(recipe: Recipe, tokens: StepResult) -> Iterator[KoalaError]:
    """What doesn't fit between the base model, the packed rows and the training code."""
    from transformers import AutoConfig

    folder = resolve(recipe.model.base)
    where = f"model.base {recipe.model.base}"
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise KoalaError(
            f"transformers can't read the model: {first_line(error)}", where=where, mend=ANOTHER_MODEL
        ) from error
    yield from vocabulary_problems(recipe, tokens, config, folder)
    context = int(tokens.manifest.settings["context"])
    longest = getattr(config.get_text_config(), "max_position_embeddings", None) or context
    if context > longest:
        yield KoalaError(
            f"the context of {context} tokens is longer than the model's {longest}",
            where="tokens.context",
            mend=f"--set tokens.context={longest}",
        )
    if unfit := unfit_kind(config):
        yield KoalaError(f"the model {unfit}", where=where, mend=ANOTHER_MODEL)
        return
    model = without_weights(config, recipe.train.dropout, where)
    yield from _target_problems(recipe.lora, model)
    if unfit := unfit_code(model):
        yield KoalaError(f"the model {unfit}", where=where, mend=ANOTHER_MODEL)
        return
    yield from trial_problems(recipe.train.dropout, context, try_out(model, where), where)


def unfit_kind(config: Any) -> str:
    """Why no model of this configuration can be tuned here; empty if one may."""
    if config.is_encoder_decoder:
        return "is an encoder and a decoder: packed dialogues go through a decoder alone"
    if config.sub_configs or config.get_text_config() is not config:
        return "is made of several models (for images or sound): only one for text alone is trained"
    if getattr(config, "quantization_config", None):
        return "is quantized: its weights can't be trained"
    carrying = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if carrying:
        return f"has layers that don't keep packed dialogues apart: {', '.join(sorted(carrying))}"
    return ""


def _target_problems(lora: LoraSettings, model: Any) -> Iterator[KoalaError]:
    """Targets of adapters that are no linear layer: peft passes over them without a word if one other is there.

    The head counts as none, since the chunked loss reads its weight and would not see the adapter.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    linear = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D) and layer is not head
    ]
    there = sorted({name.rpartition(".")[2] for name in linear})
    unknown = [target for target in lora.targets if target not in there]
    if lora.rank and unknown:
        near = [close[0] for target in unknown if (close := difflib.get_close_matches(target, there, n=1))]
        hint = f"did you mean {', '.join(dict.fromkeys(near))}? " if near else ""
        yield KoalaError(
            f"the model has no linear layer {', '.join(unknown)} for an adapter",
            where="lora.targets",
            mend=f"{hint}all there are: --set 'lora.targets=[{', '.join(there)}]'",
        )
