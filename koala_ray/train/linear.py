"""Linear layers on CPUs by oneDNN, the second library for products of matrices that torch carries.

torch gives float32 products to MKL, which uses AVX-512 on Intel's processors alone. On an AMD EPYC one core did 90
GFLOP/s by MKL where oneDNN, in the same float32, did 190 (the layers of a 135M-parameter Llama, 512 tokens).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class OneDnnLinear(nn.Linear):
    """A linear layer whose three products go to oneDNN."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """As :class:`torch.nn.Linear`; (…, inputs) → (…, outputs)."""
        found: torch.Tensor = _Product.apply(states, self.weight)
        return found if self.bias is None else found + self.bias


class _Product(torch.autograd.Function):
    """states · weightᵀ."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        # The weight itself, not a view of it: under ZeRO-3 it is gathered anew for the backward pass.
        ctx.save_for_backward(states, weight)
        return product(states, weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        states, weight = ctx.saved_tensors
        learns_states, learns_weight = ctx.needs_input_grad
        state_grads = product(grads[0], weight.T) if learns_states else None
        flat_grads, flat_states = grads[0].flatten(0, -2), states.flatten(0, -2)
        return state_grads, product(flat_grads.T, flat_states.T) if learns_weight else None


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left · rightᵀ, (…, k) and (n, k) → (…, n); a CPU's float32 by oneDNN. Autograd doesn't see through it."""
    suits = left.device.type == "cpu" and left.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    if suits and left.numel() and right.numel():
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
        return found
    return left @ right.T


def use_onednn(network: nn.Module) -> None:
    """Let a network's linear layers run by oneDNN; their weights stay what and where they are."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear
