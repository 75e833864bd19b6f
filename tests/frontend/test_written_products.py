"""Products of signs that a network writes out, as XNOR and a count or a sum of products, are bits, and exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from tests.passes.proof import eighths, equals_pytorch


def signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def integers(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1, -1)


def windows(x: Tensor, w: Tensor) -> Tensor:
    """A convolution over one axis, padded with +1."""
    found = F.pad(signs(x), (2, 2), value=1.0).unfold(2, 5, 2).permute(0, 2, 1, 3)
    count = (found.unsqueeze(2) == signs(w)[None, None]).int().sum(dim=(3, 4))
    return (2 * count - w[0].numel()).float().permute(0, 2, 1)


Product = Callable[[Tensor, Tensor], Tensor]
ROWS, SEQUENCE = ((2, 40), (6, 40)), ((1, 4, 20), (8, 4, 5))
PRODUCTS: dict[str, tuple[Product, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "a sum of products": (lambda x, w: (signs(x).unsqueeze(1) * (0.5 * signs(w))).sum(-1), ROWS),
    "XNOR and a count": (lambda x, w: (2 * (signs(x).unsqueeze(1) == signs(w)).sum(-1) - 40).float(), ROWS),
    "a Hamming distance": (
        lambda x, w: (signs(w) != ((x > 0).float() * 2 - 1)[:, None]).float().sum(-1, keepdim=True),
        ROWS,
    ),
    "windows": (windows, SEQUENCE),
    "a sum of products of integers": (lambda x, w: (integers(x).unsqueeze(1) * integers(w)).sum(-1).float(), ROWS),
    "XNOR of integers": (lambda x, w: (integers(x).unsqueeze(1) == integers(w)).sum(-1).float(), ROWS),
    "weights of 0 and 1": (lambda x, w: (integers(x) @ (w > 1).long().t()).float(), ROWS),
    "a product of integers": (lambda x, w: (integers(x) @ integers(w).t()).float(), ROWS),
}
OTHERS: dict[str, tuple[Product, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "a torch.sign may be 0": (lambda x, w: (torch.sign(x).unsqueeze(1) == signs(w)).float().sum(-1), ROWS),
    "weights of floats": (lambda x, w: (signs(x).unsqueeze(1) * w).sum(-1), ROWS),
    "outputs in front of rows": (lambda x, w: (signs(x) * signs(w).unsqueeze(1)).sum(-1), ROWS),
}


class Network(nn.Module):
    def __init__(self, product: Product, weights: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.product, self.weight = product, nn.Parameter((16 * torch.randn(weights)).round() / 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.weight)


def compiled(product: Product, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[bnncc.CompiledModel, Network]:
    network = Network(product, shapes[1])
    return bnncc.compile(network, input_shapes=["x".join(map(str, shapes[0]))]), network


@pytest.mark.parametrize("name", PRODUCTS)
def test_it_is_a_binary_layer_and_exact(name: str) -> None:
    model, network = compiled(*PRODUCTS[name])
    assert [layer.reason for layer in model.layers] == [None]
    assert equals_pytorch(model, network, eighths(*PRODUCTS[name][1][0]))


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_such_product_is_left_and_exact(name: str) -> None:
    model, network = compiled(*OTHERS[name])
    assert not any(layer.reason is None for layer in model.layers)
    assert equals_pytorch(model, network, eighths(*OTHERS[name][1][0]))
