"""What the networks of several papers share: signs with a gradient, a float stem, a shortcut, the frame around layers.

Each paper's own parts are in its own file.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Mean and standard deviation of Fashion-MNIST's training images, on the scale 0..1.
PIXEL_MEAN = 0.2860
PIXEL_STD = 0.3530


class PolynomialSign(torch.autograd.Function):
    """sign(x) forward, the derivative of Bi-Real Net's piecewise polynomial backward: 2 - 2|x| where |x| < 1."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (2 - 2 * x.abs()).clamp(min=0)


class HardTanhSign(torch.autograd.Function):
    """sign(x) forward, the derivative of hardtanh backward: 1 where |x| <= 1."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


def conv_bn(in_channels: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    """A float convolution with its batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels)
    )


def padded_shortcut(x: Tensor, stride: int, zeros: int) -> Tensor:
    """[N, C, H, W] → [N, C + 2·zeros, H/stride, W/stride]: every stride-th pixel, channels of zeros on both sides."""
    if stride == 1:
        return x
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, zeros, zeros))


class Classifier(nn.Module):
    """A stem, layers, global average pool, and `fc`, which takes [N, C] and gives the logits.

    Input: float32 [N, C, H, W], of which `mean` is subtracted and which `std` divides; output: float32, the logits.
    """

    def __init__(
        self, stem: nn.Module, layers: Iterable[nn.Module], fc: nn.Module, mean: float = 0.0, std: float = 1.0
    ) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.stem = stem
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = fc

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.stem((x - self.mean) / self.std))
        return self.fc(torch.flatten(self.pool(x), 1))
