"""FTBNN: Su et al., "FTBNN: Rethinking Non-linearity for 1-bit CNNs and Going Beyond", 2020.

The closer a 1-bit convolution comes to the float one that it imitates, the more linear it is, and the less it can
discriminate.  FPReLU, a fully learnable PReLU with a slope on either side for each channel, brings the non-linearity
back, here right behind the batch norm and inside the shortcut.  Capacity then comes from wider maps at the same number
of products: grouped 1-bit convolutions, and a 1-bit 1x1 convolution, which mixes the groups, in the shortcuts that
halve the map:

    x ─┬─ sign ─ binary 3x3 conv, G groups ─ BN ─ FPReLU ─ (+) ─ y
       └─ identity, or average pool ─ sign ─ binary 1x1 conv ─ BN ─┘
"""

import torch
from layers import PIXEL_MEAN, PIXEL_STD, Classifier, PolynomialSign, conv_bn
from torch import Tensor, nn
from torch.nn import functional as F


class FPReLU(nn.Module):
    """a·x where x > 0, b·x elsewhere; a and b, of shape [C, 1, 1], are learnt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.positive = nn.Parameter(torch.ones(channels, 1, 1))
        self.negative = nn.Parameter(torch.full((channels, 1, 1), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, self.positive * x, self.negative * x)


class BinaryConv2d(nn.Conv2d):
    """A convolution, grouped or not, of signs with weights mean|w| · sign(w) per filter, zeros around the signs.

    The scale is part of the weights' gradient; the sign's gradient is 1 where |w| <= 1.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        clipped = self.weight.clamp(-1, 1)
        signs = (torch.sign(self.weight) - clipped).detach() + clipped
        weight = self.weight.abs().mean(dim=(1, 2, 3), keepdim=True) * signs
        return F.conv2d(PolynomialSign.apply(x), weight, None, self.stride, self.padding, groups=self.groups)


class Layer(nn.Module):
    """The layer drawn above.  A layer with more output than input channels halves the map."""

    def __init__(self, channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        stride = 1 if out_channels == channels else 2
        self.conv = BinaryConv2d(channels, out_channels, 3, stride, groups)
        self.bn = nn.BatchNorm2d(out_channels)
        self.activation = FPReLU(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(2), BinaryConv2d(channels, out_channels, 1), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x))) + self.shortcut(x)


class FTBNN(Classifier):
    """A stem, then for each (channels, groups) of `stages` `layers` layers, global average pool, Linear."""

    def __init__(
        self,
        stem: nn.Module,
        stages: tuple[tuple[int, int], ...],
        layers: int,
        classes: int,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        channels, blocks = stages[0][0], []
        for width, groups in stages:
            for _ in range(layers):
                blocks.append(Layer(channels, width, groups))
                channels = width
        super().__init__(stem, blocks, nn.Linear(channels, classes), mean, std)


def ftbnn_resnet18() -> FTBNN:
    """ResNet-18 for 224x224 images, twice as wide in four groups: as many binary products as ResNet-18."""
    stem = nn.Sequential(*conv_bn(3, 128, 7, 2), nn.MaxPool2d(3, 2, 1), FPReLU(128))
    return FTBNN(stem, ((128, 4), (256, 4), (512, 4), (1024, 4)), layers=4, classes=1000)


def ftbnn_small() -> FTBNN:
    """64 channels at 14x14, then 128 at 7x7, in two groups, for 28x28 images with pixel values 0..255."""
    stem = nn.Sequential(*conv_bn(1, 64, 3, 2), FPReLU(64))
    return FTBNN(stem, ((64, 2), (128, 2)), layers=2, classes=10, mean=255 * PIXEL_MEAN, std=255 * PIXEL_STD)
