"""Products of signs that a network writes out, as XNOR and a count or a sum of products, are bits, and exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.targets.tflite.reader import TfliteFile
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
ROWS, SEQUENCE, MAP = ((2, 40), (6, 40)), ((1, 4, 20), (8, 4, 5)), ((1, 64, 3, 5), (6, 64))
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
    "outputs in front of rows": (lambda x, w: (signs(x) * signs(w).unsqueeze(1)).sum(-1), ROWS),
    "XNOR of booleans along the channels of a map": (
        lambda x, w: (2 * ((x > 0)[:, None] == (w > 0)[None, :, :, None, None]).sum(2) - 64).float(),
        MAP,
    ),
    "XOR of booleans": (lambda x, w: (64 - 2 * ((x > 0)[:, None] ^ (w > 0)[..., None, None]).sum(2)).float(), MAP),
    "XOR of integers": (lambda x, w: ((x > 0).int()[:, None] ^ (w > 0).int()).sum(-1).float(), ROWS),
    "AND of integers": (lambda x, w: ((x > 0).int()[:, None] & (w > 0).int()).sum(-1).float(), ROWS),
    "AND of booleans": (lambda x, w: torch.logical_and((x > 0)[:, None], w > 0).sum(-1).float(), ROWS),
    "a mean of what differs": (
        lambda x, w: (signs(x).permute(0, 2, 3, 1)[..., None, :] != signs(w)).float().mean(-1),
        MAP,
    ),
    "distances": (lambda x, w: (signs(x)[:, None] - signs(w)).abs().sum(-1), ROWS),
    "squared distances": (lambda x, w: ((signs(x)[:, None] - signs(w)) ** 2).sum(-1), ROWS),
    "a norm": (lambda x, w: (signs(x)[:, None] - 3 * signs(w)).norm(p=1, dim=-1), ROWS),
    "repeated first": (lambda x, w: (signs(x)[:, None].expand(2, 6, 40) * signs(w).expand(2, 6, 40)).sum(-1), ROWS),
    "cosines": (
        lambda x, w: F.cosine_similarity(signs(x).permute(0, 2, 3, 1)[..., None, :], 0.5 * signs(w), dim=-1),
        MAP,
    ),
    "two values of any kind": (
        lambda x, w: (torch.where(x > 0, 0.75, -0.25)[:, None] * torch.where(w > 0, 2.0, 0.5)).sum(-1),
        ROWS,
    ),
    "weights of 0 and 1": (lambda x, w: (integers(x) @ (w > 1).long().t()).float(), ROWS),
    "a product of integers": (lambda x, w: (integers(x) @ integers(w).t()).float(), ROWS),
}
OTHERS: dict[str, tuple[Product, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "a torch.sign may be 0": (lambda x, w: (torch.sign(x).unsqueeze(1) == signs(w)).float().sum(-1), ROWS),
    "weights of floats": (lambda x, w: (signs(x).unsqueeze(1) * w).sum(-1), ROWS),
    "weights of three values": (lambda x, w: (signs(x)[:, None] == torch.sign(w.round())).sum(-1).float(), ROWS),
    "a distance of floats": (lambda x, w: (signs(x)[:, None] - w).abs().sum(-1), ROWS),
    "weights of each row": (lambda x, w: (signs(x)[None] * signs(w).reshape(3, 2, 40)).sum(-1), ROWS),
    "the norm of a map": (lambda x, w: signs(x).norm(dim=-1), ROWS),
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


@pytest.mark.parametrize("name", ["XNOR of booleans along the channels of a map", "XOR of booleans", "cosines"])
def test_it_takes_no_operator_but_its_own(name: str) -> None:
    """But for the ADD of a threshold that is passed at 0: what is done to sums of integers is in the multipliers."""
    model, _ = compiled(*PRODUCTS[name])
    file = TfliteFile(model.content)
    names = [operator.name for operator in file.operators if file.activations(operator)]
    assert [name for name in names if name not in ("ADD", "TRANSPOSE")] == ["LceQuantize", "LceBconv2d"]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_such_product_is_left_and_exact(name: str) -> None:
    model, network = compiled(*OTHERS[name])
    assert not any(layer.reason is None for layer in model.layers)
    assert equals_pytorch(model, network, eighths(*OTHERS[name][1][0]))
