"""Attention that keeps packed dialogues apart."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from koala_ray.errors import KoalaError
from koala_ray.models.resolve import resolve
from koala_ray.train.attention import NAME, isolated_attention, require_isolated


def test_equals_plain_causal_attention_for_one_dialogue():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 7, 8) for heads in (4, 2, 2))
    got, _ = isolated_attention(None, query, key, value, None, scaling=0.3, dialogue_lengths=(7,))
    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.3
    scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), float("-inf"))
    expected = (scores.softmax(-1) @ value.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(got, expected)


def test_a_neighbour_changes_nothing():
    torch.manual_seed(0)
    states = [torch.randn(1, 2, 9, 8) for _ in range(3)]
    before, _ = isolated_attention(None, *states, None, dialogue_lengths=(4, 5))
    for tensor in states:
        tensor[:, :, :4] = torch.randn(1, 2, 4, 8)
    after, _ = isolated_attention(None, *states, None, dialogue_lengths=(4, 5))
    assert torch.equal(before[:, 4:], after[:, 4:])
    assert not torch.equal(before[:, :4], after[:, :4])


def test_refuses_to_run_without_borders_or_with_a_mask():
    states = [torch.randn(1, 2, 3, 8) for _ in range(3)]
    with pytest.raises(ValueError, match="dialogue_lengths"):
        isolated_attention(None, *states, None)
    with pytest.raises(ValueError, match="no mask"):
        isolated_attention(None, *states, torch.ones(3, 3), dialogue_lengths=(3,))


def test_a_model_with_another_attention_is_refused():
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny"), attn_implementation="sdpa")
    with pytest.raises(KoalaError, match="can't keep packed dialogues apart"):
        require_isolated(model)
    require_isolated(AutoModelForCausalLM.from_pretrained(resolve("tiny"), attn_implementation=NAME))
