"""A small binary neural network for Fashion-MNIST, as a researcher writes it: plain PyTorch, in one file.

Blocks as in Bi-Real Net (a shortcut around every binary convolution) with ReActNet's learnt shifts and activations:

    x ─┬─ shift ─ sign ─ binary 3x3 conv ─ BN ─ (+) ─ shift ─ PReLU ─ shift ─
       └─ identity, or 2x2 average pool ───────┘

A block that doubles the channels runs two such convolutions on the same signs and concatenates their sums.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Mean and standard deviation of the 60,000 training images, on the scale 0..1.
PIXEL_MEAN = 0.2860
PIXEL_STD = 0.3530

# (output channels, stride) of the blocks behind the stem: 28x28, then 14x14, then 7x7.
STEM_CHANNELS = 32
BLOCKS = ((32, 1), (64, 2), (64, 1), (64, 1), (128, 2))


class ApproxSign(torch.autograd.Function):
    """sign(x) forward, the derivative of Bi-Real Net's piecewise polynomial backward: 2 - 2|x| where |x| < 1."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (2 - 2 * x.abs()).clamp(min=0)


class BinaryConv2d(nn.Conv2d):
    """A convolution with weights mean|w| · sign(w) per output channel; their gradient is that of clamp(w, -1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean(dim=(1, 2, 3), keepdim=True).detach()
        binary = scale * torch.sign(self.weight)
        clipped = torch.clamp(self.weight, -1, 1)
        weight = binary.detach() - clipped.detach() + clipped
        return F.conv2d(x, weight, None, self.stride, self.padding)


class Shift(nn.Module):
    """x + b, b learnt per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Block(nn.Module):
    """The block drawn above, with two branches where the channels double."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        branches = out_channels // channels
        self.shift = Shift(channels)
        self.convs = nn.ModuleList(
            BinaryConv2d(channels, channels, 3, stride, padding=1, bias=False) for _ in range(branches)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(branches))
        self.shortcut = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        self.activation = nn.Sequential(Shift(out_channels), nn.PReLU(out_channels), Shift(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        signs = ApproxSign.apply(self.shift(x))
        shortcut = self.shortcut(x)
        sums = [bn(conv(signs)) + shortcut for conv, bn in zip(self.convs, self.bns, strict=True)]
        return self.activation(torch.cat(sums, dim=1) if len(sums) > 1 else sums[0])


class FashionNet(nn.Module):
    """Float 3x3 stem, five binary blocks, global average pool, Linear.

    Input: float32 [N, 1, 28, 28], pixel values 0..255 as they are in the files; forward normalises them itself.
    Output: float32 [N, 10], the logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, STEM_CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(STEM_CHANNELS))
        channels, blocks = STEM_CHANNELS, []
        for out_channels, stride in BLOCKS:
            blocks.append(Block(channels, out_channels, stride))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = (x / 255 - PIXEL_MEAN) / PIXEL_STD
        x = self.blocks(self.stem(x))
        return self.fc(torch.flatten(self.pool(x), 1))


def make_net() -> FashionNet:
    """The network with fresh parameters; net.pth holds the trained ones."""
    return FashionNet()
