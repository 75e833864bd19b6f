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
from tests.passes.proof import compared, eighths, equals_pytorch, operators_in_file, proven

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


def stacked(x: Tensor) -> Tensor:
    return torch.stack([x[:, :, row : row + 6, column : column + 6] for row in range(3) for column in range(3)], 1)


def kernel_first(weight: Tensor) -> Tensor:
    return weight.permute(2, 3, 1, 0).flatten(0, 1)


WINDOWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "an einsum of columns": lambda x, w: torch.einsum("ok,bkl->bol", w.flatten(1), F.unfold(compared(x), 3)),
    "a sum of products": lambda x, w: (F.unfold(compared(x), 3).unsqueeze(1) * w.flatten(1)[None, :, :, None]).sum(2),
    "signs of columns": lambda x, w: w.flatten(1) @ torch.where(F.unfold(x, 3, padding=1) > 0.25, 1.0, -1.0),
    "signs of rows": lambda x, w: F.linear(compared(F.unfold(x, 3, stride=2).mT - 0.5), w.flatten(1)),
    "an einsum of windows": lambda x, w: torch.einsum(
        "bchwij,ocij->bohw", compared(x).unfold(2, 3, 1).unfold(3, 3, 2), w
    ),
    "stacked slices": lambda x, w: torch.einsum("bkchw,kco->bohw", stacked(compared(x)), kernel_first(w)),
    "patches": lambda x, w: F.linear(
        compared(F.pad(x, (0, 1, 0, 1)).reshape(-1, 40, 3, 3, 3, 3).permute(0, 2, 4, 3, 5, 1).flatten(3)),
        kernel_first(w).flatten(0, 1).mT,
    ),
    "a tensordot": lambda x, w: torch.tensordot(w[:, :, 0, 0], compared(x), ([1], [1])).transpose(0, 1),
    "a stack of one matrix": lambda x, w: torch.bmm(
        compared(x).flatten(2).mT, w[None, :, :, 0, 0].mT.expand(2, -1, -1)
    ),
}


class Windows(nn.Module):
    """All of them of one map, as long rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.weight = nn.Parameter(torch.randn(len(WINDOWS), 24, 40, 3, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(WINDOWS.values(), compared(self.weight), strict=True)
        return tuple(product(x, weight) for product, weight in pairs)


def test_windows_are_those_of_a_convolution_however_they_are_cut() -> None:
    network = Windows()
    compiled = proven(network, 2, 40, 8, 8)
    assert [layer.reason for layer in compiled.layers] == [None] * len(WINDOWS)
    found = operators_in_file(compiled)
    assert found["GATHER"] == found["LceDequantize"] == found["BATCH_MATMUL"] == 0
    assert found["LceBconv2d"] == len(WINDOWS)
    assert compiled.float_weight_bytes < 1.1 * 4 * network.weight.numel()
    x = eighths(2, 40, 8, 8)
    with torch.no_grad():
        expected = [compiled.as_stored(one.numpy()) for one in network(torch.from_numpy(x))]
    for result, wanted in zip(compiled.run([compiled.as_stored(x)]), expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
