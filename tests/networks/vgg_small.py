"""VGG-small (Cai et al., "Deep Learning with Low Precision by Half-Wave Gaussian Quantization", section 5), binary."""

from __future__ import annotations

import itertools

import torch
from torch import nn


class BinaryConv2d(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        y: torch.Tensor = self._conv_forward(torch.sign(x), scale * torch.sign(self.weight), None)
        return y


class VggSmall(nn.Module):
    """conv → [max-pool] → batch norm → hardtanh, binary from the second convolution on; a float Linear at the end."""

    def __init__(
        self,
        widths: tuple[int, ...],
        padding: int,
        pool: tuple[int, int, int] = (2, 2, 0),
        clamp: type[nn.Module] = nn.Hardtanh,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), nn.BatchNorm2d(widths[0]), clamp()]
        for index, (before, after) in enumerate(itertools.pairwise(widths)):
            layers.append(BinaryConv2d(before, after, 3, padding=padding, bias=False))
            if index % 2 == 0:
                layers.append(nn.MaxPool2d(*pool))
            layers += [nn.BatchNorm2d(after), clamp()]
        self.features = nn.Sequential(*layers)
        self.head = nn.LazyLinear(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(torch.sign(self.features(x)).flatten(1))
        return y
