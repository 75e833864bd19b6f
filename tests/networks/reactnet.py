"""ReActNet-A: Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation
Functions", ECCV 2020, section 4 and figure 3 (MobileNet-like body, RSign, RPReLU, duplicated 1x1 branches)."""

import torch
from torch import Tensor, nn

from .binarize import PolynomialSign, ScaledBinaryConv2d

# (output channels, stride) of the thirteen blocks behind the stem of 32 channels.
REACTNET_A_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1),
    (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class Shift(nn.Module):
    """x + b, b learnt per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.expand_as(x)


class RPReLU(nn.Sequential):
    """PReLU between two learnt shifts (equation 4 of the paper)."""

    def __init__(self, channels: int) -> None:
        super().__init__(Shift(channels), nn.PReLU(channels), Shift(channels))


class Block(nn.Module):
    """A 3x3 half with identity or average-pool shortcut, then a 1x1 half that keeps or doubles the channels."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.doubles = out_channels == 2 * channels
        self.shift1 = Shift(channels)
        self.conv3x3 = ScaledBinaryConv2d(channels, channels, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.shortcut = nn.AvgPool2d(2, 2) if stride == 2 else nn.Identity()
        self.act1 = RPReLU(channels)
        self.shift2 = Shift(channels)
        branches = 2 if self.doubles else 1
        self.conv1x1 = nn.ModuleList(ScaledBinaryConv2d(channels, channels, 1) for _ in range(branches))
        self.bn2 = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(branches))
        self.act2 = RPReLU(out_channels)
        self.binarize = PolynomialSign()

    def forward(self, x: Tensor) -> Tensor:
        half = self.bn1(self.conv3x3(self.binarize(self.shift1(x)))) + self.shortcut(x)
        half = self.act1(half)
        signs = self.binarize(self.shift2(half))
        parts = [bn(conv(signs)) + half for conv, bn in zip(self.conv1x1, self.bn2, strict=True)]
        return self.act2(torch.cat(parts, dim=1) if self.doubles else parts[0])


class ReActNet(nn.Module):
    """The network: float 3x3 stem at stride 2, blocks, global average pool, Linear.  Input [N, 3, H, W]."""

    def __init__(self, blocks: tuple[tuple[int, int], ...] = REACTNET_A_BLOCKS, stem: int = 32, classes: int = 1000):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem))
        channels, layers = stem, []
        for out_channels, stride in blocks:
            layers.append(Block(channels, out_channels, stride))
            channels = out_channels
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.fc(x.view(x.size(0), -1))
