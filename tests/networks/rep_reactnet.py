"""ReActNet-A with RepConv: Shi et al., "RepBNN: Towards a Precise Binary Neural Network with Enhanced Feature Map via
Repeating", 2022, section 3: a binary convolution yields 1/β of the channels, its output is repeated β times, and batch
norm, shifts and slopes behind it have parameters of their own for each copy."""

import torch
from torch import Tensor, nn

from .binarize import PolynomialSign, ScaledBinaryConv2d
from .reactnet import REACTNET_A_BLOCKS, ReActNet, RPReLU, Shift


class RepConv(nn.Module):
    """A binary convolution of out_channels/β filters, its output repeated β times along the channels."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, padding: int, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.conv = ScaledBinaryConv2d(channels, out_channels // beta, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).repeat(1, self.beta, 1, 1)


class RepBlock(nn.Module):
    """The block of ReActNet with RepConv in place of each binary convolution."""

    def __init__(self, channels: int, out_channels: int, stride: int, beta: int) -> None:
        super().__init__()
        self.doubles = out_channels == 2 * channels
        self.shift1 = Shift(channels)
        self.conv3x3 = RepConv(channels, channels, 3, stride, 1, beta)
        self.bn1 = nn.BatchNorm2d(channels)
        self.shortcut = nn.AvgPool2d(2, 2) if stride == 2 else nn.Identity()
        self.act1 = RPReLU(channels)
        self.shift2 = Shift(channels)
        branches = 2 if self.doubles else 1
        self.conv1x1 = nn.ModuleList(RepConv(channels, channels, 1, 1, 0, beta) for _ in range(branches))
        self.bn2 = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(branches))
        self.act2 = RPReLU(out_channels)
        self.binarize = PolynomialSign()

    def forward(self, x: Tensor) -> Tensor:
        half = self.act1(self.bn1(self.conv3x3(self.binarize(self.shift1(x)))) + self.shortcut(x))
        signs = self.binarize(self.shift2(half))
        parts = [bn(conv(signs)) + half for conv, bn in zip(self.conv1x1, self.bn2, strict=True)]
        return self.act2(torch.cat(parts, dim=1) if self.doubles else parts[0])


class RepReActNet(ReActNet):
    """ReActNet with `width` times the channels, and β copies of every binary convolution's output."""

    def __init__(
        self,
        blocks: tuple[tuple[int, int], ...] = REACTNET_A_BLOCKS,
        stem: int = 32,
        classes: int = 1000,
        beta: int = 4,
        width: int = 2,
    ) -> None:
        wide = tuple((channels * width, stride) for channels, stride in blocks)
        super().__init__(wide, stem * width, classes)
        channels, layers = stem * width, []
        for out_channels, stride in wide:
            layers.append(RepBlock(channels, out_channels, stride, beta))
            channels = out_channels
        self.blocks = nn.Sequential(*layers)
