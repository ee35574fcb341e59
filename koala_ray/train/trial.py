"""A model tried out on torch's meta device: what its code does with a packed row, seen without its weights.

Tensors there have shapes and no values. Isolated attention is registered under a name of its own that notes how it is
called.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from koala_ray.errors import KoalaError

ANOTHER_MODEL = "use a dense decoder that takes transformers' attention interface, such as a Llama or a Qwen"
TRIAL = "koala_trial"
TRIAL_LENGTHS = (9, 7)
"""Tokens of the two dialogues in the row that a model is tried on."""
IN_WORDS = {"softcap": "capped scores", "s_aux": "attention sinks", "attention_mask": "a mask of its own"}
"""What some models hand to their attention."""


def without_weights(config: Any, dropout: float, where: str) -> Any:
    """The model of a configuration on the meta device, set up as for training.

    Args:
        config: as transformers reads it.
        dropout: the recipe's, which attention takes.
        where: what a refusal names.

    Raises:
        KoalaError: transformers builds no language model of it, or only one with attention code of its own.
    """
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM

    AttentionInterface.register(TRIAL, _note_call)
    AttentionMaskInterface.register(TRIAL, lambda *args, **kwargs: None)
    config = copy.deepcopy(config)
    if dropout and hasattr(config, "attention_dropout"):
        config.attention_dropout = dropout
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, attn_implementation=TRIAL).train()
    except Exception as error:  # other people's code, built on what it wasn't made for
        problem = f"transformers builds no language model of type {config.model_type!r}: {first_line(error)}"
        if TRIAL in str(error):
            problem = f"the model ({config.model_type}) has attention code of its own, which isn't isolated"
        raise KoalaError(problem, where=where, mend=ANOTHER_MODEL) from error


def unfit_code(model: Any) -> str:
    """Why a model's code can't keep packed dialogues apart, or can't be trained rightly; empty if it may."""
    if not model._supports_attention_backend:
        return f"({model.config.model_type}) has attention code of its own, which isn't isolated"
    if model._is_stateful:
        return "is recurrent: its state carries over from one packed dialogue to the next"
    if any("expert" in part or "moe" in part for name, _ in model.named_modules() for part in name.split(".")):
        return "is a mixture of experts: without its router's balancing loss, which isn't taken here, experts fall idle"
    return ""


@dataclass(frozen=True)
class Trial:
    """What a model does with a packed row."""

    model: Any
    calls: list[dict[str, Any]]
    """The keyword arguments of each call of its attention, with the layer as ``module``."""
    plain_head: bool
    """Whether the logits are the head's product with the last states and nothing else."""


_calls: list[dict[str, Any]] = []


def _note_call(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any) -> tuple[Any, None]:
    """An attention that notes how it is called and gives the right shape: (1, tokens, heads, value size)."""
    _calls.append({"module": module, "attention_mask": attention_mask, **given})
    return query.new_empty(1, query.shape[2], query.shape[1], value.shape[3]), None


def try_out(model: Any, where: str) -> Trial:
    """Run a model on the meta device on a row of two dialogues.

    Raises:
        KoalaError: its code needs more than shapes; that of dense decoders doesn't.
    """
    import torch

    seen: dict[str, Any] = {}
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, given, made: seen.update(read=given[0], logits=made))
    model.get_decoder().register_forward_hook(
        lambda module, given, made: seen.update(states=getattr(made, "last_hidden_state", None))
    )
    _calls.clear()
    with torch.device("meta"), torch.no_grad():
        places = torch.arange(sum(TRIAL_LENGTHS))[None]
        # With a mask of ones transformers doesn't look into the positions, which have no values here.
        row = {"input_ids": places, "position_ids": places, "attention_mask": torch.ones_like(places)}
        try:
            logits = model(**row, use_cache=False, dialogue_lengths=TRIAL_LENGTHS).logits
        except Exception as error:  # other people's code, run on what it wasn't made for
            problem = f"{type(model).__name__} can't be tried on a packed row: {first_line(error)}"
            raise KoalaError(problem, where=where, mend=ANOTHER_MODEL) from error
    plain = logits is seen["logits"] and _whole(seen["read"]) is _whole(seen.get("states")) and head.bias is None
    return Trial(model, list(_calls), plain)


def _whole(tensor: Any) -> Any:
    """The tensor that this one is a part of, or itself."""
    return tensor if tensor is None or tensor._base is None else tensor._base


def trial_problems(dropout: float, context: int, trial: Trial, where: str) -> Iterator[KoalaError]:
    """What a model does that isolated attention, the chunked loss or the recipe's dropout doesn't.

    Args:
        dropout: the recipe's.
        context: tokens of a row.
        trial: what the model did.
        where: what a refusal names.
    """
    calls = trial.calls
    causal = [call for call in calls if getattr(call["module"], "is_causal", True) and "dialogue_lengths" in call]
    if len(causal) < max(len(calls), trial.model.config.num_hidden_layers):
        yield KoalaError("not all layers of the model are causal attention", where=where, mend=ANOTHER_MODEL)
    if needed := sorted({name for call in calls for name in call if _is_passed_over(name, call[name])}):
        named = ", ".join(IN_WORDS.get(name, name) for name in needed)
        problem = f"the model's attention needs what isolated attention doesn't do: {named}"
        yield KoalaError(problem, where=where, mend=ANOTHER_MODEL)
    window = min([call["sliding_window"] for call in calls if call.get("sliding_window")], default=context)
    if window < context:
        yield KoalaError(
            f"the model attends to the last {window} tokens, isolated attention to a whole dialogue, up to {context}",
            where="tokens.context",
            mend=f"--set tokens.context={window}",
        )
    if not trial.plain_head:
        yield KoalaError(
            "the model's logits are not just its head's product with the last states (a bias, scale, cap or layer is "
            "added), as the chunked loss takes them to be",
            where=where,
            mend=ANOTHER_MODEL,
        )
    yield from _dropout_problems(dropout, trial, where)


def _is_passed_over(name: str, value: object) -> bool:
    """Whether an argument of the attention asks for what isolated attention leaves undone."""
    from inspect import signature

    from koala_ray.train.attention import isolated_attention

    if name == "attention_mask":
        return value is not None
    harmless = {"position_ids", "use_cache", "is_causal", "sliding_window"}
    return not (value is None or value is False or name in harmless | set(signature(isolated_attention).parameters))


def _dropout_problems(dropout: float, trial: Trial, where: str) -> Iterator[KoalaError]:
    import torch

    rates = {float(call.get("dropout") or 0) for call in trial.calls}
    if dropout and rates != {dropout}:
        yield KoalaError(
            f"the model's attention doesn't take the dropout of {dropout:g}",
            where="train.dropout",
            mend="--set train.dropout=0",
        )
    own = rates | {module.p for module in trial.model.modules() if isinstance(module, torch.nn.Dropout)}
    if own := own - {0.0, dropout}:
        config = trial.model.config.to_dict().items()
        names = [name for name, rate in config if "drop" in name and isinstance(rate, float) and rate in own]
        yield KoalaError(
            f"the model brings dropout of its own ({', '.join(f'{rate:g}' for rate in sorted(own))})",
            where=where,
            mend=f"set {', '.join(names)} to 0 in its config.json",
        )


def first_line(error: BaseException) -> str:
    """What an error of other people's code says in its first line; its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
