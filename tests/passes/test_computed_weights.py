"""Products whose weights are computed at run time are named, and computed in float."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from tests.passes.proof import eighths, equals_pytorch


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def scaled_sign(x: Tensor) -> Tensor:
    """Signs times the largest magnitude of what they are of, a number for each matrix."""
    return sign(x) * x.abs().amax((1, 2), keepdim=True)


def experts(parts: nn.ModuleList, x: Tensor, groups: int = 1) -> Tensor:
    chosen = F.one_hot(parts[0](x.amax((2, 3))).argmax(1), 4).float()
    weight = (chosen @ parts[1].weight).view(16, 32 // groups, 3, 3)
    return F.conv2d(sign(x), sign(weight), padding=1, groups=groups)


PRODUCTS: dict[str, tuple[Callable[[nn.ModuleList, Tensor], Tensor], tuple[int, ...], str, int]] = {
    "experts": (experts, (1, 32, 6, 5), "computed-weights", 16 * 32 * 9 * 30),
    "experts in groups": (lambda p, x: experts(p, x, 2), (1, 32, 6, 5), "computed-weights", 16 * 16 * 9 * 30),
    "scores": (lambda p, x: sign(x) @ sign(x - 0.5).transpose(1, 2), (2, 8, 32), "computed-weights", 2 * 8 * 8 * 32),
    "a gated Linear": (
        lambda p, x: F.linear(sign(x), sign(p[0].weight * x.amax(0, keepdim=True))),
        (8, 32),
        "computed-weights",
        8 * 32 * 4,
    ),
    "scores of scaled signs": (
        lambda p, x: scaled_sign(x) @ scaled_sign(x - 0.5).transpose(1, 2) * 0.25,
        (2, 8, 32),
        "computed-weights",
        2 * 8 * 8 * 32,
    ),
    "floats by signs": (lambda p, x: x @ sign(x - 0.5).transpose(1, 2), (2, 8, 32), "computed-signs", 2 * 8 * 8 * 32),
}  # fmt: skip


class Product(nn.Module):
    """A product of two computed values, with a Linear and a table of filters."""

    def __init__(self, product: Callable[[nn.ModuleList, Tensor], Tensor], groups: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.product = product
        self.parts = nn.ModuleList([nn.Linear(32, 4), nn.Linear(16 * 32 // groups * 9, 4)])

    def forward(self, x: Tensor) -> Tensor:
        return self.product(self.parts, x)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_with_computed_weights_is_named(name: str) -> None:
    product, shape, word, macs = PRODUCTS[name]
    network = Product(product, 2 if "groups" in name else 1)
    compiled = bnncc.compile(network, input_shapes=["x".join(map(str, shape))])
    assert [(layer.word, layer.macs) for layer in compiled.layers] == [(word, macs)]
    assert "test_computed_weights.py" in compiled.layers[0].source
    assert equals_pytorch(compiled, network, eighths(*shape))
