"""RB-Net: Liu et al., "RB-Net: Training Highly Accurate and Efficient Binary Neural Networks with Reshaped Point-wise
Convolution and Balanced Activation", IEEE Transactions on Circuits and Systems for Video Technology 32 (9), 2022.

Reshaped point-wise convolution (RPC) takes the place of the 3x3 convolution: 2x2 pixels become channels, a binary 1x1
convolution mixes them, and its channels become pixels again.  That is 4·C·C' products a pixel in place of 9·C·C':

    x [C, H, W] ─ sign ─ pixel_unshuffle [4C, H/2, W/2] ─ binary 1x1 conv [4C', H/2, W/2] ─ pixel_shuffle [C', H, W]

Balanced activation (BA) moves the distribution of the scaled sums with a scale and a shift that are learnt for each
channel, before a PReLU:

    sums ─ · α (of the weights) ─ BN ─ (+) shortcut ─ · scale ─ + shift ─ PReLU ─ y
"""

import torch
from layers import PIXEL_MEAN, PIXEL_STD, Classifier, conv_bn
from torch import Tensor, nn
from torch.nn import functional as F


class BinaryActivation(nn.Module):
    """sign(x + b), b learnt for each channel, with Bi-Real Net's piecewise polynomial p as its estimator.

    Written as algebra, (sign(x) - p(x)) + p(x) with the difference detached: p is x·(2 - |x|) on [-1, 1], ±1 outside.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.bias
        clipped = x.clamp(-1, 1)
        p = clipped * (2 - clipped.abs())
        return (torch.sign(x) - p).detach() + p


class BinaryPointwise(nn.Module):
    """A 1x1 convolution with weights mean|w| · sign(w) per filter; their gradient is that of clamp(w, -1, 1)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, channels, 1, 1) * channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean(dim=(1, 2, 3), keepdim=True).detach()
        clipped = self.weight.clamp(-1, 1)
        return F.conv2d(x, (scale * torch.sign(self.weight) - clipped).detach() + clipped)


class RPC(nn.Module):
    """Reshaped point-wise convolution of signs, [N, C, H, W] → [N, C', H/stride, W/stride], H and W even.

    With stride 2 the 2x2 pixels that became channels stay channels: the 1x1 convolution yields C' of them.
    """

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = BinaryPointwise(4 * channels, out_channels * (4 if stride == 1 else 1))
        self.stride = stride

    def forward(self, signs: Tensor) -> Tensor:
        y = self.conv(F.pixel_unshuffle(signs, 2))
        return F.pixel_shuffle(y, 2) if self.stride == 1 else y


class BalancedActivation(nn.Module):
    """PReLU(scale · x + shift), all learnt for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(x * self.scale + self.shift)


class Layer(nn.Module):
    """sign, RPC and batch norm, a shortcut around them, BA.  Where the map halves, the shortcut is an average pool, and
    where the channels double it is there twice.  A map of odd size gets a row and a column for the time of the RPC.
    """

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.binarize = BinaryActivation(channels)
        self.rpc = RPC(channels, out_channels, stride)
        self.bn = nn.BatchNorm2d(out_channels)
        self.copies = out_channels // channels
        self.pool = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        self.activation = BalancedActivation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        shortcut = torch.cat([self.pool(x)] * self.copies, dim=1)
        y = self.rpc(self.binarize(F.pad(x, (0, width % 2, 0, height % 2))))
        if height % 2 or width % 2:
            y = y[:, :, :height, :width]
        return self.activation(self.bn(y) + shortcut)


class RBNet(Classifier):
    """A stem, then for each stage `layers` layers of as many channels as `widths` says, global average pool, Linear.

    All stages but the first halve the map.
    """

    def __init__(
        self,
        stem: nn.Module,
        widths: tuple[int, ...],
        layers: tuple[int, ...],
        classes: int,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        channels, blocks = widths[0], []
        for width, count in zip(widths, layers, strict=True):
            for _ in range(count):
                blocks.append(Layer(channels, width, 1 if width == channels else 2))
                channels = width
        super().__init__(stem, blocks, nn.Linear(channels, classes), mean, std)


def rbnet_resnet18() -> RBNet:
    """RB-Net with ResNet-18's stages, for 224x224 images."""
    stem = nn.Sequential(*conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
    return RBNet(stem, (64, 128, 256, 512), (4, 4, 4, 4), classes=1000)


def rbnet_small() -> RBNet:
    """Two layers of 64 channels at 14x14, two of 128 at 7x7, for 28x28 images with pixel values 0..255."""
    return RBNet(conv_bn(1, 64, 3, 2), (64, 128), (2, 2), classes=10, mean=255 * PIXEL_MEAN, std=255 * PIXEL_STD)
