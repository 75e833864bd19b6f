"""Products with unfolded windows, and of weights that come first, are convolutions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.model import CompiledModel
from tests.passes.helpers import normal
from tests.passes.proof import compared, equals_pytorch, operators_in_file, proven

Product = Callable[[Tensor, Tensor], Tensor]


def columns_first(x: Tensor, w: Tensor) -> Tensor:
    windows = F.unfold(compared(x), 3, padding=1).transpose(1, 2)
    return windows.matmul(w.view(len(w), -1).t()).transpose(1, 2).view(len(x), len(w), 8, 9)


def weights_first(x: Tensor, w: Tensor) -> Tensor:
    rows = w.view(len(w), -1) @ F.unfold(compared(x), (3, 2), stride=(2, 1), padding=(0, 1))
    return F.fold(rows, (3, 10), (1, 1))


def dilated_in_a_batch(x: Tensor, w: Tensor) -> Tensor:
    padded = F.pad(compared(x), (1, 1, 1, 1), value=1.0)
    return w.view(1, len(w), -1).expand(len(x), -1, -1).bmm(F.unfold(padded, 3, dilation=2)).view(2, len(w), 6, 7)


def one_tap(x: Tensor, w: Tensor) -> Tensor:
    return (w[:, :, 0, 0] @ compared(x).flatten(2)).view(2, len(w), 8, 9)


def one_matrix(x: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("oc,bchw->bohw", w[:, :, 0, 0], compared(x))


PRODUCTS: dict[str, tuple[Product, tuple[int, int]]] = {
    "columns first": (columns_first, (3, 3)),
    "weights first": (weights_first, (3, 2)),
    "dilated, in a batch": (dilated_in_a_batch, (3, 3)),
    "one tap": (one_tap, (1, 1)),
    "one tap, of two matrices": (one_matrix, (1, 1)),
}


class Network(nn.Module):
    """Such a product, and one of its signs, with scales."""

    def __init__(self, product: Product, kernel: tuple[int, int], power_of_two: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.product = product
        self.weight = nn.Parameter(torch.randn(24, 40, *kernel))
        self.scale = nn.Parameter(torch.randn(24, 1, 1, 1))
        if power_of_two:
            self.scale.data = 2.0 ** torch.randint(-3, 3, (24, 1, 1, 1))
        self.last = nn.Conv2d(24, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x, compared(self.weight) * self.scale)
        return F.conv2d(compared(y - 0.5), compared(self.last.weight))


def _compiled(name: str, power_of_two: bool) -> tuple[CompiledModel, Network]:
    product, kernel = PRODUCTS[name]
    network = Network(product, kernel, power_of_two).eval()
    return bnncc.compile(network, input_shapes=["2x40x8x9"]), network


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_with_unfolded_windows_runs_as_bits(name: str) -> None:
    compiled, network = _compiled(name, power_of_two=True)
    assert [layer.reason for layer in compiled.layers] == [None, None]
    counts = operators_in_file(compiled)
    assert counts["LceBconv2d"] == 2
    assert not counts["GATHER"] + counts["BATCH_MATMUL"] + counts["TRANSPOSE_CONV"]
    for seed in range(3):
        assert equals_pytorch(compiled, network, normal(2, 40, 8, 9, seed=seed))


@pytest.mark.parametrize("name", PRODUCTS)
def test_and_is_proven_with_any_scales(name: str) -> None:
    product, kernel = PRODUCTS[name]
    proven(Network(product, kernel, power_of_two=False), 2, 40, 8, 9)


def test_other_indices_and_float_weights_stay_as_they_are() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(4)
            self.weight = nn.Parameter(torch.randn(24, 360))
            self.register_buffer("order", torch.tensor([[0, 2, 3], [1, 3, 4]]))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            windows = x[:, :, self.order][:, :, :, :, self.order].permute(0, 1, 2, 4, 3, 5).reshape(2, -1, 9)
            return self.weight @ F.unfold(compared(x), 3), compared(self.weight[:, :160]) @ windows

    network = Other().eval()
    compiled = bnncc.compile(network, input_shapes=["2x40x8x9"])
    counts = operators_in_file(compiled)
    assert counts["LceBconv2d"] == 0
    assert counts["GATHER"] >= 2
    x = normal(2, 40, 8, 9)
    with torch.no_grad():
        expected = [compiled.as_stored(output.numpy()) for output in network(torch.from_numpy(x))]
    for found, wanted in zip(compiled.run([compiled.as_stored(x)]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * float(np.abs(wanted).max()))
