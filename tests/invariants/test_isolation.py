"""Invariant 2: a packed row's logits are each of its dialogues' logits alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from koala_ray import storage
from koala_ray.models.resolve import resolve
from koala_ray.tokens.shards import ShardReader, read_plan
from koala_ray.train.attention import NAME

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("base", ["tiny", "smollm2-135m"])
@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_packed_logits_are_those_of_each_dialogue_alone(tiny_tokens, base, activation_checkpointing):
    shards = storage.join(tiny_tokens.folder, "train")
    reader = ShardReader(shards)
    row = next(row for row in map(reader.row, range(read_plan(shards).rows)) if len(row.lengths) > 1)
    packed_model = AutoModelForCausalLM.from_pretrained(resolve(base), attn_implementation=NAME)
    if activation_checkpointing:
        packed_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        packed_model.train()
    alone_model = AutoModelForCausalLM.from_pretrained(resolve(base), attn_implementation="sdpa")
    ids = torch.tensor([row.input_ids])
    positions = torch.cat([torch.arange(length) for length in row.lengths])[None]
    packed = packed_model(
        input_ids=ids, position_ids=positions, dialogue_lengths=tuple(row.lengths), use_cache=False
    ).logits[0]
    start = 0
    for length in row.lengths:
        alone = alone_model(input_ids=ids[:, start : start + length], use_cache=False).logits[0]
        torch.testing.assert_close(packed[start : start + length], alone, rtol=1e-4, atol=1e-4)
        start += length
    assert start == len(row.input_ids)


def test_without_the_borders_neighbours_would_show(tiny_tokens):
    """The test above can fail: plain attention over the whole row gives other logits."""
    shards = storage.join(tiny_tokens.folder, "train")
    reader = ShardReader(shards)
    row = next(row for row in map(reader.row, range(read_plan(shards).rows)) if len(row.lengths) > 1)
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny"), attn_implementation="sdpa")
    ids = torch.tensor([row.input_ids])
    leaking = model(input_ids=ids, use_cache=False).logits[0]
    second = slice(row.lengths[0], row.lengths[0] + row.lengths[1])
    alone = model(input_ids=ids[:, second], use_cache=False).logits[0]
    assert (leaking[second] - alone).abs().max() > 1e-3
