"""Linear layers by oneDNN: the same figures as torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from koala_ray.train.linear import OneDnnLinear, product, use_onednn

SEVERAL = [(1, 1), (3, 5), (2, 4, 6), (1, 1, 64), (0, 7)]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", SEVERAL)
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torchs_layer(shape, bias):
    plain = nn.Linear(shape[-1], 9, bias=bias)
    layer = nn.Linear(shape[-1], 9, bias=bias)
    layer.load_state_dict(plain.state_dict())
    use_onednn(layer)
    assert type(layer) is OneDnnLinear
    found, weights = [], drawn(*shape[:-1], 9)
    for each in (plain, layer):
        states = drawn(*shape).requires_grad_()
        out = each(states)
        (out * weights).sum().backward()
        found.append([out.detach(), states.grad, *(parameter.grad for parameter in each.parameters())])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_what_is_frozen_gets_no_gradient():
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad_(False)
    use_onednn(layer)
    states = drawn(2, 4).requires_grad_()
    layer(states).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(states.grad, layer.weight.sum(dim=0).expand(2, 4))


def test_products_take_views_and_other_number_formats():
    left, right = drawn(6, 5), drawn(7, 5)
    expected = left @ right.T
    torch.testing.assert_close(product(left.T.contiguous().T, right), expected)
    torch.testing.assert_close(product(left, right.T.contiguous().T), expected)
    torch.testing.assert_close(product(left.double(), right.double()).float(), expected)


def test_only_plain_linear_layers_are_changed():
    class Own(nn.Linear):
        pass

    network = nn.Sequential(nn.Linear(2, 2), Own(2, 2), nn.ReLU())
    use_onednn(network)
    assert [type(module) for module in network] == [OneDnnLinear, Own, nn.ReLU]
