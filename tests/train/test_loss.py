"""The chunked loss: the same numbers and gradients as plain cross entropy, without its logits in memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from koala_ray.train.loss import backward_scale, summed_loss, token_losses

VOCABULARY, HIDDEN = 37, 5


def problem(tokens: int, seed: int = 0, dtype: torch.dtype = torch.float32):
    """States, a head, and targets; the states are large so that the softmax isn't flat."""
    generator = torch.Generator().manual_seed(seed)
    states = (3 * torch.randn(tokens, HIDDEN, generator=generator)).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator).to(dtype).requires_grad_()
    return states, weight, torch.randint(VOCABULARY, (tokens,), generator=generator)


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(0, 40), chunk=st.integers(1, 50), seed=st.integers(0, 2**31), scale=st.floats(-3, 3))
def test_loss_and_gradients_are_those_of_plain_cross_entropy(tokens, chunk, seed, scale):
    states, weight, targets = problem(tokens, seed)
    expected = cross_entropy(states @ weight.T, targets, reduction="sum")
    (expected * scale).backward()
    grads = states.grad.clone(), weight.grad.clone()
    states.grad = weight.grad = None
    got = summed_loss(states, weight, targets, chunk)
    (got * scale).backward()
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(states.grad, grads[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weight.grad, grads[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_each_tokens_loss(chunk):
    states, weight, targets = problem(20)
    torch.testing.assert_close(
        token_losses(states, weight, targets, chunk), cross_entropy(states @ weight.T, targets, reduction="none")
    )


def test_extreme_logits_stay_finite():
    states, weight, targets = problem(8)
    loss = summed_loss(states * 1e4, weight, targets, 3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(weight.grad).all()


def test_in_bfloat16_the_heads_gradient_keeps_what_later_chunks_add():
    """Summed in bfloat16, what a late chunk adds to a large sum would be rounded away."""
    states, weight, targets = problem(600, dtype=torch.bfloat16)
    summed_loss(states, weight, targets, 1).backward()
    exact_states, exact_weight = states.detach().float(), weight.detach().float().requires_grad_()
    cross_entropy(exact_states @ exact_weight.T, targets, reduction="sum").backward()
    error = (weight.grad.float() - exact_weight.grad).norm() / exact_weight.grad.norm()
    assert error < 0.01


def test_a_frozen_head_gets_no_gradient():
    states, weight, targets = problem(9)
    summed_loss(states, weight.detach(), targets, 4).backward()
    assert states.grad is not None
    assert weight.grad is None


class Largest(TorchDispatchMode):
    """The most rows of any tensor as wide as the vocabulary that an operation gave."""

    rows = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim == 2 and result.shape[1] == VOCABULARY:
            self.rows = max(self.rows, result.shape[0])
        return result


def test_no_more_than_a_chunk_of_logits_is_ever_in_memory():
    states, weight, targets = problem(64)
    with Largest() as chunked:
        summed_loss(states, weight, targets, 8).backward()
    with Largest() as whole:
        cross_entropy(states @ weight.T, targets, reduction="sum").backward()
    assert chunked.rows == 8
    assert whole.rows == 64


def test_the_scale_undoes_the_frameworks_averaging():
    """DeepSpeed: mean over 2 workers of (sum over 3 micro-batches ÷ 3); wanted: everything ÷ 50 learnt tokens."""
    sums = [[5.0, 7.0, 11.0], [13.0, 17.0, 19.0]]
    scale = backward_scale(workers=2, accumulation=3, learnt=50)
    averaged = sum(sum(micro * scale / 3 for micro in worker) for worker in sums) / 2
    assert averaged == pytest.approx(sum(map(sum, sums)) / 50)
    assert backward_scale(2, 3, 0) == 0.0
