"""Binary transposed convolutions: convolutions of the output's phases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from tests.passes.helpers import normal
from tests.passes.proof import compared, equals_pytorch, operators_in_file, proven

SHAPE = (2, 36, 5, 6)


class Network(nn.Module):
    """A binary transposed convolution with a scale a channel, and a binary convolution of its signs."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], padding: int, output_padding: int) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.weight = nn.Parameter(torch.randn(36, 24, *kernel))
        self.scale = nn.Parameter(2.0 ** torch.randint(-3, 3, (1, 24, 1, 1)))
        self.bias = nn.Parameter(torch.randint(-20, 20, (24,)) / 4)
        self.last = nn.Parameter(torch.randn(8, 24, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = compared(self.weight) * self.scale
        output_padding = [self.output_padding if step > 1 else 0 for step in self.stride]
        y = F.conv_transpose2d(compared(x), weight, self.bias, self.stride, self.padding, output_padding)
        return y, F.conv2d(compared(y), compared(self.last))


class Last(Network):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[1]


class First(Network):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


# Kernel, stride, padding, output padding, how many layers it becomes, and the network that it is tried in.
GEOMETRIES = [
    ((2, 2), (2, 2), 0, 0, 1, Last), ((4, 4), (2, 2), 1, 0, 1, First), ((4, 4), (2, 2), 1, 0, 1, Last),
    ((3, 3), (2, 2), 1, 1, 4, First), ((3, 3), (1, 1), 1, 0, 1, Last), ((5, 3), (2, 1), 1, 0, 2, First),
    ((4, 2), (2, 2), 0, 0, 1, Last), ((7, 7), (3, 3), 2, 1, 9, First), ((4, 4), (4, 4), 1, 1, 1, Last),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "padding", "output_padding", "layers", "kind"), GEOMETRIES)
def test_a_transposed_convolution_runs_as_bits(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    output_padding: int,
    layers: int,
    kind: type[Network],
) -> None:
    network = kind(kernel, stride, padding, output_padding).eval()
    compiled = bnncc.compile(network, input_shapes=[SHAPE])
    assert [layer.reason for layer in compiled.layers] == [None] * (layers + (kind is Last))
    assert operators_in_file(compiled)["TRANSPOSE_CONV"] == 0
    assert equals_pytorch(compiled, network, normal(*SHAPE))


class OverOneAxis(nn.Module):
    """A binary transposed convolution of lines, and a binary convolution of its signs."""

    def __init__(self, kernel: int, stride: int, padding: int, output_padding: int) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.geometry = (stride, padding, output_padding)
        self.weight = nn.Parameter(torch.randn(36, 24, kernel))
        self.bias = nn.Parameter(torch.randint(-20, 20, (24,)) / 4)
        self.last = nn.Parameter(torch.randn(8, 24, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv_transpose1d(compared(x), compared(self.weight), self.bias, *self.geometry)
        return torch.cat([y, F.conv1d(compared(y), compared(self.last))], 1)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding", "layers"), [(4, 2, 1, 0, 1), (3, 1, 1, 0, 1), (5, 3, 2, 1, 3)]
)
def test_one_over_one_axis_does_too(kernel: int, stride: int, padding: int, output_padding: int, layers: int) -> None:
    network = OverOneAxis(kernel, stride, padding, output_padding).eval()
    compiled = bnncc.compile(network, input_shapes=[(2, 36, 10)])
    assert [layer.reason for layer in compiled.layers] == [None] * (layers + 1)
    assert operators_in_file(compiled)["TRANSPOSE"] <= 3  # PyTorch's order of inputs and outputs
    assert equals_pytorch(compiled, network, normal(2, 36, 10))


def test_and_is_proven() -> None:
    proven(Last((3, 3), (2, 2), 1, 1), *SHAPE)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"), [((2, 2), (3, 3), 0, 0), ((3, 3), (2, 2), 0, 1)]
)
def test_an_output_that_no_tap_reaches_stays_as_it_is(
    kernel: tuple[int, int], stride: tuple[int, int], padding: int, output_padding: int
) -> None:
    network = First(kernel, stride, padding, output_padding).eval()
    compiled = bnncc.compile(network, input_shapes=[SHAPE])
    assert operators_in_file(compiled)["TRANSPOSE_CONV"] == 1
    assert equals_pytorch(compiled, network, normal(*SHAPE))
