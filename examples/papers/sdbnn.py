"""SD-BNN: Xue et al., "Self-Distribution Binary Neural Networks", 2021.

Two learnt shifts decide what becomes +1 and what -1.  The activations' self-distribution (ASD) looks at the
whole map, as a squeeze-and-excite branch does, and moves each channel by something between 0 and 1; the weights'
self-distribution (WSD) moves each filter by a part of its own mean:

    ASD:  x ─┬─ average pool ─ fc ─ fc ─ sigmoid ─ (+) ─ sign
             └──────────────────────────────────────┘
    WSD:  sign(w + sigmoid(α) · 0.01 · mean(w))

With them no scale of the weights is needed: batch norm follows, and the products stay integers.

Three networks of the paper are here, ResNet-20 and VGG-small (CIFAR-10) and ResNet-18 (ImageNet), and small forms of
the first two for 28x28 images.
"""

import torch
from layers import PIXEL_MEAN, PIXEL_STD, HardTanhSign, conv_bn, padded_shortcut
from torch import Tensor, nn
from torch.nn import functional as F

# The fc in the middle of ASD has C/REDUCTION features, at least MIN_FEATURES.
REDUCTION = 16
MIN_FEATURES = 4

# How far WSD may move a filter, as a part of its mean.
LARGEST_SHIFT = 0.01


class ActivationShift(nn.Module):
    """ASD: [N, C, H, W] → the same shape, x + sigmoid(fc(fc(avgpool(x)))), one shift for each image and channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        features = max(channels // REDUCTION, MIN_FEATURES)
        self.fc = nn.Sequential(nn.Linear(channels, features, bias=False), nn.Linear(features, channels, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        count, channels = x.shape[:2]
        pooled = F.adaptive_avg_pool2d(x, 1).view(count, channels)
        return x + torch.sigmoid(self.fc(pooled)).view(count, channels, 1, 1).expand_as(x)


class SDConv2d(nn.Conv2d):
    """A 3x3 convolution, padding 1, on the signs of the shifted x, with the signs of the shifted weights."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(channels, out_channels, 3, stride, 1, bias=False)
        self.shift = ActivationShift(channels)
        self.alpha = nn.Parameter(torch.zeros(out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        w = self.weight + torch.sigmoid(self.alpha) * LARGEST_SHIFT * mean
        signs = HardTanhSign.apply(self.shift(x))
        return F.conv2d(signs, HardTanhSign.apply(w), None, self.stride, self.padding)


class Layer(nn.Module):
    """SDConv2d and batch norm, a shortcut around both, hardtanh.  Where the map halves, the shortcut is every second
    pixel, with channels of zeros added on both sides.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.stride = 1 if out_channels == channels else 2
        self.zeros = (out_channels - channels) // 2
        self.conv = SDConv2d(channels, out_channels, self.stride)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = padded_shortcut(x, self.stride, self.zeros)
        return F.hardtanh(self.bn(self.conv(x)) + shortcut)


class ResNet(nn.Module):
    """A stem, `layers` binary layers for each of `widths`, global average pool, Linear.

    Input: float32 [N, C, H, W], of which `mean` is subtracted and which `std` divides; output: float32, the logits.
    """

    def __init__(
        self, stem: nn.Module, widths: tuple[int, ...], layers: int, classes: int, mean: float = 0.0, std: float = 1.0
    ) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.stem = stem
        channels, blocks = widths[0], []
        for width in widths:
            for _ in range(layers):
                blocks.append(Layer(channels, width))
                channels = width
        self.layers = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.stem((x - self.mean) / self.std))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class VggSmall(nn.Module):
    """conv → batch norm → hardtanh, a 2x2 max-pool in front of every second batch norm; all but the first binary.

    Input: float32 [N, C, size, size], of which `mean` is subtracted and which `std` divides; output: [N, 10], logits.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        size: int,
        in_channels: int = 3,
        stem_stride: int = 1,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        channels, size = widths[0], size // stem_stride
        blocks = [nn.Conv2d(in_channels, channels, 3, stem_stride, 1, bias=False), nn.BatchNorm2d(channels)]
        for index, width in enumerate(widths[1:], 1):
            blocks += [nn.Hardtanh(), SDConv2d(channels, width)]
            if index % 2:
                blocks.append(nn.MaxPool2d(2))
                size //= 2
            blocks.append(nn.BatchNorm2d(width))
            channels = width
        self.features = nn.Sequential(*blocks, nn.Hardtanh())
        self.fc = nn.Linear(channels * size**2, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features((x - self.mean) / self.std).flatten(1))


def sdbnn_resnet20() -> ResNet:
    """ResNet-20 for 32x32 images: three stages of six layers."""
    return ResNet(conv_bn(3, 16, 3, 1), (16, 32, 64), layers=6, classes=10)


def sdbnn_resnet18() -> ResNet:
    """ResNet-18 for 224x224 images: four stages of four layers."""
    stem = nn.Sequential(conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
    return ResNet(stem, (64, 128, 256, 512), layers=4, classes=1000)


def sdbnn_vgg() -> VggSmall:
    """VGG-small for 32x32 images."""
    return VggSmall((128, 128, 256, 256, 512, 512), size=32)


def sdbnn_resnet20_small() -> ResNet:
    """Two stages of two layers, at 14x14 and 7x7, for 28x28 images with pixel values 0..255."""
    return ResNet(conv_bn(1, 64, 3, 2), (64, 128), layers=2, classes=10, mean=255 * PIXEL_MEAN, std=255 * PIXEL_STD)


def sdbnn_vgg_small() -> VggSmall:
    """Three binary layers, at 14x14 and 7x7, for 28x28 images with pixel values 0..255."""
    return VggSmall(
        (32, 64, 128, 128), size=28, in_channels=1, stem_stride=2, mean=255 * PIXEL_MEAN, std=255 * PIXEL_STD
    )
