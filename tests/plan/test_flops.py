from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from koala_ray.models.resolve import resolve
from koala_ray.plan.flops import attended_positions, flops_per_token, peak_flops, training_flops
from koala_ray.plan.shape import shape_of
from koala_ray.recipe import LoraSettings


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_attended_positions_are_those_of_a_causal_mask(lengths: list[int]) -> None:
    pairs = sum(int(np.tril(np.ones((length, length))).sum()) for length in lengths)
    assert attended_positions(np.array(lengths)) == pytest.approx(pairs / sum(lengths))


def test_flops_are_what_torch_counts_in_a_step() -> None:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny"), dtype=torch.float32, attn_implementation="eager")
    length = 256
    ids = torch.randint(0, 250, (1, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    # Eager attention computes the whole square.
    expected = length * flops_per_token(shape_of("tiny"), attended=length)
    # The norms and the rotary positions' small product are not counted as parameters' work.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_published_throughput_follows_from_published_mfu() -> None:
    # MPT-13B on A100-80GB, sequence 2,048: 59.57 % MFU, 2,262 tokens/s a GPU (mosaicml/llm-foundry).
    flops = training_flops(12_853_954_560, 0, 40, 5120, 2048)
    peak = peak_flops("A100-80GB", "bfloat16")
    assert peak
    assert 0.5957 * peak / flops == pytest.approx(2262, rel=0.005)


def test_adapters_spare_the_frozen_weights_gradients() -> None:
    shape = shape_of("huggyllama/llama-7b")
    whole, adapted = flops_per_token(shape, 300), flops_per_token(shape, 300, LoraSettings(rank=16))
    assert adapted / whole == pytest.approx(2 / 3, abs=0.02)


def test_peaks_are_dense_and_by_precision() -> None:
    assert peak_flops("NVIDIA A100-SXM4-80GB", "bfloat16") == 312e12
    assert peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == pytest.approx(989.4e12)
    assert peak_flops("NVIDIA A100-SXM4-80GB", "float32") == pytest.approx(19.5e12)
    assert peak_flops("cpu", "float32") is None
