"""RepBNN: Shi et al., "RepBNN: Towards a Precise Binary Neural Network with Enhanced Feature Map via Repeating", 2022.

RepConv makes feature maps wider at no cost in weights or products: a convolution yields 1/β of the channels, and its
output is repeated β times along the channels.  By the RepTran rules, what follows has parameters of its own for every
copy, and so the copies part: batch norm, shifts, PReLU.  A layer's input form repeats the input instead, and the copies
part at the shifts before the sign:

    output form:  x [C] ─ sign ─ conv [O/β, C, k, k] ─ repeat β ─ BN [O] ─ y [O]
    input form:   x [C/β] ─ repeat β ─ shift [C] ─ sign ─ conv [O, C, k, k] ─ BN [O] ─ y [O]

Two networks of the paper are here, Rep-AdamBNN-ReActNet-A (ImageNet) and Rep-ReCU-ResNet-20 (CIFAR-10), and a small
form of each for 28x28 images.
"""

import math

import torch
from layers import PIXEL_MEAN, PIXEL_STD, Classifier, HardTanhSign, PolynomialSign, conv_bn, padded_shortcut
from torch import Tensor, nn
from torch.nn import functional as F


class Repeat(nn.Module):
    """[N, C, ...] → [N, β·C, ...]: the channels, β times one after the other."""

    def __init__(self, beta: int) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x] * self.beta, dim=1)


class RepLinear(nn.Module):
    """Linear in the output form, [N, in] → [N, out]: out/β rows of weights, their results repeated, one bias a copy."""

    def __init__(self, in_features: int, out_features: int, beta: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features // beta, bias=False)
        self.repeat = Repeat(beta)
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.repeat(self.linear(x)) + self.bias


# ReActNet-A, trained as AdamBNN proposes


class Shift(nn.Module):
    """x + b, b learnt per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class RPReLU(nn.Sequential):
    """PReLU between two learnt shifts (ReActNet, equation 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__(Shift(channels), nn.PReLU(channels), Shift(channels))


class BinaryConv2d(nn.Conv2d):
    """A convolution with weights mean|w| · sign(w) per filter; their gradient is that of clamp(w, -1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean(dim=(1, 2, 3), keepdim=True).detach()
        binary = scale * torch.sign(self.weight)
        clipped = torch.clamp(self.weight, -1, 1)
        return F.conv2d(x, binary.detach() - clipped.detach() + clipped, None, self.stride, self.padding)


def rep_conv(channels: int, out_channels: int, kernel: int, stride: int, beta: int) -> nn.Sequential:
    """RepConv in the output form, on signs."""
    return nn.Sequential(
        BinaryConv2d(channels, out_channels // beta, kernel, stride, kernel // 2, bias=False), Repeat(beta)
    )


class RepBlock(nn.Module):
    """ReActNet's block with RepConv: a 3x3 half, then a 1x1 half that keeps or doubles the channels.

    x ─┬─ shift ─ sign ─ RepConv 3x3 ─ BN ─ (+) ─ RPReLU ─ h        h ─┬─ shift ─ sign ─ RepConv 1x1 ─ BN ─ (+) ─ RPReLU
       └─ identity or 2x2 average pool ──────┘                         └─────────────────────────────────────┘

    Where the channels double, two such 1x1 branches read the same signs, and their results are concatenated.
    repeats_input: the 3x3 half is in the input form, and `channels` is β times what x has.
    """

    def __init__(self, channels: int, out_channels: int, stride: int, beta: int, repeats_input: bool = False) -> None:
        super().__init__()
        self.widen = Repeat(beta) if repeats_input else nn.Identity()
        self.shift1 = Shift(channels)
        self.conv3x3 = rep_conv(channels, channels, 3, stride, 1 if repeats_input else beta)
        self.bn1 = nn.BatchNorm2d(channels)
        self.shortcut = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        self.act1 = RPReLU(channels)
        self.shift2 = Shift(channels)
        branches = out_channels // channels
        self.conv1x1 = nn.ModuleList(rep_conv(channels, channels, 1, 1, beta) for _ in range(branches))
        self.bn2 = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(branches))
        self.act2 = RPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        half = self.bn1(self.conv3x3(PolynomialSign.apply(self.shift1(x)))) + self.shortcut(x)
        half = self.act1(half)
        signs = PolynomialSign.apply(self.shift2(half))
        parts = [bn(conv(signs)) + half for conv, bn in zip(self.conv1x1, self.bn2, strict=True)]
        return self.act2(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])


# (output channels, stride) of ReActNet-A's thirteen blocks, before they are widened, behind a stem of 32 channels.
REACTNET_A = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1),
    (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class RepReActNet(nn.Module):
    """ReActNet-A with every feature map `width` times as wide, and RepConv with `beta` copies in all blocks.

    With β = width² the binary weights are as many as in ReActNet-A.  Input: float32 [N, 3, H, W]; output: logits.
    """

    def __init__(self, width: int = 2, beta: int = 4, classes: int = 1000) -> None:
        super().__init__()
        channels = 32 * width
        self.stem = conv_bn(3, channels, 3, 2)
        blocks = []
        for out_channels, stride in REACTNET_A:
            blocks.append(RepBlock(channels, out_channels * width, stride, beta))
            channels = out_channels * width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.fc(torch.flatten(self.pool(x), 1))


class SmallRepReActNet(nn.Module):
    """For 28x28 images: 16 channels at 14x14, repeated to 64 in the first block, then 128 at 7x7; RepLinear behind.

    Input: float32 [N, 1, 28, 28], pixel values 0..255; forward normalises them.  Output: float32 [N, 10], the logits.
    """

    def __init__(self, beta: int = 4) -> None:
        super().__init__()
        self.stem = conv_bn(1, 16, 3, 2)
        self.blocks = nn.Sequential(
            RepBlock(64, 128, 2, beta, repeats_input=True), RepBlock(128, 128, 1, beta), RepBlock(128, 256, 1, beta)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Sequential(RepLinear(256, 128, beta), nn.BatchNorm1d(128), nn.PReLU(128))
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = (x / 255 - PIXEL_MEAN) / PIXEL_STD
        x = self.pool(self.blocks(self.stem(x)))
        return self.fc(self.hidden(torch.flatten(x, 1)))


# ResNet-20 with ReCU's weights


class StraightThroughSign(torch.autograd.Function):
    """sign(w) forward, the identity backward."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, w: Tensor) -> Tensor:
        return torch.sign(w)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return grad


class RepReCUConv2d(nn.Module):
    """RepConv in the output form with the weights of Xu et al., "ReCU: Reviving the Dead Weights in Binary Neural
    Networks", ICCV 2021.

    The weights of each filter are standardised; those in the tails, which hardly ever change their sign, are moved to
    the quantiles τ and 1 - τ, and only then binarised.  For a Laplace distribution of mean 0 and scale b = mean|w|, the
    quantile is Q(τ) = -b · ln(2 - 2τ).  The scale α is learnt, one for each channel of every copy.
    """

    def __init__(self, channels: int, out_channels: int, stride: int, beta: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.randn(out_channels // beta, channels, 3, 3) * 0.05)
        self.alpha = nn.Parameter(torch.full((out_channels, 1, 1), (9 * channels) ** -0.5))
        self.repeat = Repeat(beta)
        self.register_buffer("tau", torch.tensor(0.85))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        w = w / (w.var(dim=(1, 2, 3), keepdim=True) + 1e-5).sqrt()
        scale = w.abs().mean(dim=(1, 2, 3), keepdim=True).detach()
        quantile = -scale * torch.log(2 - 2 * self.tau)
        w = torch.maximum(torch.minimum(w, quantile), -quantile)
        sums = F.conv2d(HardTanhSign.apply(x), StraightThroughSign.apply(w), None, self.stride, 1)
        return self.repeat(sums) * self.alpha


class RepReCULayer(nn.Module):
    """RepConv, batch norm, a shortcut around both, PReLU.  Where the map halves, the shortcut is every second pixel,
    with channels of zeros added on both sides.
    """

    def __init__(self, channels: int, out_channels: int, stride: int, beta: int) -> None:
        super().__init__()
        self.conv = RepReCUConv2d(channels, out_channels, stride, beta)
        self.bn = nn.BatchNorm2d(out_channels)
        self.activation = nn.PReLU(out_channels)
        self.stride, self.zeros = stride, (out_channels - channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)) + padded_shortcut(x, self.stride, self.zeros))


class RepReCUResNet(Classifier):
    """ResNet for small images, a shortcut around each binary 3x3 convolution, all convolutions RepConv with ReCU.

    widths: channels of the stages; layers: binary convolutions in each.  `mean`, `std`: of the pixels.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        layers: int,
        beta: int,
        in_channels: int = 3,
        stem_stride: int = 1,
        classes: int = 10,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        stem = conv_bn(in_channels, widths[0], 3, stem_stride)
        channels, blocks = widths[0], []
        for width in widths:
            for _ in range(layers):
                blocks.append(RepReCULayer(channels, width, 1 if width == channels else 2, beta))
                channels = width
        super().__init__(stem, blocks, nn.Sequential(nn.BatchNorm1d(channels), nn.Linear(channels, classes)), mean, std)

    def set_progress(self, progress: float) -> None:
        """τ rises exponentially from 0.85 to 0.99 in the course of training (0..1)."""
        for module in self.modules():
            if isinstance(module, RepReCUConv2d):
                module.tau.fill_(0.85 * math.exp(progress * math.log(0.99 / 0.85)))


def rep_adambnn_reactnet_a() -> RepReActNet:
    """Rep-AdamBNN-ReActNet-A for 224x224 images, β = 4, twice as wide."""
    return RepReActNet()


def rep_recu_resnet20() -> RepReCUResNet:
    """Rep-ReCU-ResNet-20 for 32x32 images: three stages of six layers, twice as wide as ResNet-20, β = 4."""
    return RepReCUResNet((32, 64, 128), layers=6, beta=4)


def rep_reactnet_small() -> SmallRepReActNet:
    """Three blocks of Rep-AdamBNN-ReActNet-A for 28x28 images."""
    return SmallRepReActNet()


def rep_recu_resnet20_small() -> RepReCUResNet:
    """Rep-ReCU-ResNet with two stages of three layers, at 14x14 and 7x7, for 28x28 images with pixel values 0..255."""
    return RepReCUResNet(
        (64, 128), layers=3, beta=4, in_channels=1, stem_stride=2, mean=255 * PIXEL_MEAN, std=255 * PIXEL_STD
    )
