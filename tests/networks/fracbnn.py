"""A residual network of CIFAR's size with activations of two bits, after FracBNN (Zhang et al., 2021).

Every convolution computes with the upper bit first; only where that result exceeds a learnt threshold does the lower
bit count too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .randomize import randomize


class TwoBits(nn.Module):
    """-1, -⅓, ⅓ or 1, with a learnt shift a channel; straight through."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clamp(x + self.bias, -1, 1)
        return (torch.round((x + 1) / 2 * 3) / 3 * 2 - 1 - x).detach() + x


class GatedConv(nn.Module):
    """±1 weights; the full result where that of the upper bit, ±⅔, exceeds `threshold`."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) * 0.1)
        self.threshold = nn.Parameter(torch.randn(1, outputs, 1, 1))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        weight = (torch.sign(self.weight) - self.weight).detach() + self.weight
        upper, full = (
            F.conv2d(operand, weight, stride=self.stride, padding=1) for operand in (torch.sign(x) * 2 / 3, x)
        )
        chosen = (torch.sigmoid((upper - self.threshold) * 5) > 0.5).float()
        return (1 - chosen) * upper + chosen * full


class Half(nn.Module):
    """Two bits, a gated convolution, batch norm, shortcut, RPReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.quantize, self.conv = TwoBits(inputs), GatedConv(inputs, outputs, stride)
        self.norm, self.prelu = nn.BatchNorm2d(outputs), nn.PReLU(outputs)
        self.before, self.behind = (nn.Parameter(torch.zeros(1, outputs, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(self.quantize(x)))
        if y.shape != x.shape:
            x = torch.cat([F.avg_pool2d(x, 2)] * 2, 1)
        z: Tensor = self.prelu(y + x - self.before) + self.behind
        return z


class FracBNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16))
        halves, inputs = [], 16
        for outputs, stride in ((16, 1),) * 3 + ((32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1)):
            halves += [Half(inputs, outputs, stride), Half(outputs, outputs, 1)]
            inputs = outputs
        self.halves, self.head = nn.Sequential(*halves), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.halves(self.stem(x)).mean((2, 3)))
        return y


def fracbnn() -> nn.Module:
    """36 binary layers of 18 convolutions, for 1x3x32x32."""
    torch.manual_seed(0)
    return randomize(FracBNN(), 3)
