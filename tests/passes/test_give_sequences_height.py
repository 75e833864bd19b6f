"""Sequences are maps of height 1: what the passes know of maps, they know of sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.passes.helpers import normal
from tests.passes.proof import compared, equals_pytorch, operators_in_file, proven


class Network(nn.Module):
    """Over sequences [N, C, L]: pools between a convolution and a sign, a pad, a crop, a join, both kinds of mean.

    All parameters are integers and powers of two, so that nothing rounds.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Parameter(torch.randn(32, 40, 5))
        self.second = nn.Parameter(torch.randn(24, 64, 3))
        self.third = nn.Parameter(torch.randn(8, 24, 1))
        self.slopes = nn.Parameter(torch.tensor([0.25, 0.5]).repeat(16))
        self.norm = nn.BatchNorm1d(32, eps=0)
        self.norm.weight.data = torch.tensor([1.0, 2, 0.5, 4]).repeat(8)
        self.norm.bias.data = torch.arange(32.0) / 8 + 0.0625
        self.scale = nn.Parameter(2.0 ** torch.randint(-3, 3, (24, 1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool1d(F.conv1d(compared(x), compared(self.first)), 4)
        x = compared(self.norm(F.prelu(x, self.slopes)))
        x = F.pad(torch.cat([x, x.roll(1, 2)], 1)[:, :, 1:], (1, 2), value=1.0)
        x = F.conv1d(x, compared(self.second) * self.scale.unsqueeze(-1), stride=2, dilation=2) + 0.5
        y = F.conv1d(compared(x - x.mean(2, keepdim=True)), compared(self.third), groups=1)
        return y.flatten(1), F.relu(x).amax(-1)


class Joined(Network):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.cat(super().forward(x), 1)


def test_a_pool_between_a_convolution_over_one_axis_and_a_sign_pools_bits() -> None:
    network = Joined().eval()
    compiled = proven(network, 1, 40, 38)
    assert [layer.reason for layer in compiled.layers] == [None] * 3
    operators = operators_in_file(compiled)
    assert operators["LceBMaxPool2d"] == 1
    assert operators["MAX_POOL_2D"] == operators["PRELU"] == 0
    assert operators["RESHAPE"] == 2
    assert equals_pytorch(compiled, network, normal(1, 40, 38))


class Decoder(nn.Module):
    """Two layers, the second of which reads every element twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Parameter(torch.randn(32, 40, 3)), nn.Parameter(torch.randn(8, 32, 3))

    def forward(self, x: Tensor) -> Tensor:
        one, other = (torch.where(weight >= 0, 1.0, -1.0) for weight in (self.first, self.second))
        x = F.interpolate(F.conv1d(torch.where(x >= 0, 1.0, -1.0), one), scale_factor=2)
        return F.conv1d(torch.where(x >= 0, 1.0, -1.0), other)


def test_repeated_elements_are_bits_without_a_reshape_between() -> None:
    network = Decoder()
    compiled = proven(network, 1, 40, 11)
    found = operators_in_file(compiled)
    assert (found["LceBconv2d"], found["LceQuantize"], found["RESHAPE"]) == (2, 1, 2)
    assert equals_pytorch(compiled, network, normal(1, 40, 11))
