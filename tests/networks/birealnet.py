"""Bi-Real-Net-18: Liu et al., "Bi-Real Net: Enhancing the Performance of 1-bit CNNs with Improved
Representational Capability", ECCV 2018, section 3 (a shortcut around every 1-bit convolution)."""

import torch
from torch import Tensor, nn

from .binarize import PolynomialSign, ScaledBinaryConv2d


class Layer(nn.Module):
    """sign, binary 3x3 convolution, batch norm, shortcut.  A stride-2 layer's shortcut is an average pool and a
    float 1x1 convolution with its own batch norm."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.binarize = PolynomialSign()
        self.conv = ScaledBinaryConv2d(channels, out_channels, 3, stride, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(2, stride),
                nn.Conv2d(channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(self.binarize(x))) + self.shortcut(x)


class BiRealNet18(nn.Module):
    """7x7 stem at stride 2, 3x3 max-pool at stride 2, sixteen binary layers, global average pool, Linear."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512), classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, layers = widths[0], []
        for stage, width in enumerate(widths):
            for index in range(4):
                layers.append(Layer(channels, width, 2 if stage and index == 0 else 1))
                channels = width
        self.layers = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.maxpool(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))
