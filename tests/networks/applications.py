"""Networks that are no image classifiers, at the sizes in which they are used, with honest random parameters.

Written for these tests after what the literature does with binary layers: a transformer encoder (BinaryBERT, BiT), a
keyword spotter (binary 1-D convolutions over MFCCs), a U-Net, a detector with several outputs (SSD's heads), a network
on points (BiPointNet), super-resolution (a binary body and a pixel shuffle), and a recurrent head behind binary
convolutions.  Every factory returns the module in eval mode; `APPLICATIONS` has the inputs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .binarize import ClippedSign, PolynomialSign, ScaledBinaryConv2d
from .randomize import randomize


def binarized(weight: Tensor) -> Tensor:
    """mean|w| · sign(w) for each output channel, w with its mean taken off; a clamp as its STE."""
    dims = tuple(range(1, weight.ndim))
    centred = weight - weight.mean(dims, keepdim=True)
    scale = centred.abs().mean(dims, keepdim=True).detach()
    clipped = centred.clamp(-1.0, 1.0)
    return (scale * torch.sign(centred)).detach() - clipped.detach() + clipped


class Shift(nn.Module):
    """A learnt shift a channel in front of a sign, along axis `axis`."""

    def __init__(self, channels: int, axis: int, ndim: int) -> None:
        super().__init__()
        shape = [1] * ndim
        shape[axis] = channels
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class BinaryLinear(nn.Linear):
    """±1 features by ±1 weights, on the last axis."""

    def __init__(self, features: int, out: int) -> None:
        super().__init__(features, out)
        self.shift = Shift(features, -1, 3)

    def forward(self, x: Tensor) -> Tensor:
        signs: Tensor = ClippedSign.apply(self.shift(x))
        return F.linear(signs, binarized(self.weight), self.bias)


class EncoderLayer(nn.Module):
    """Pre-norm: softmax attention in float between binary projections, then a binary feed-forward part with GELU."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (BinaryLinear(width, width) for _ in range(4))
        self.up, self.down = BinaryLinear(width, hidden), BinaryLinear(hidden, width)

    def split(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        return x.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        attended = F.scaled_dot_product_attention(*(self.split(part(y)) for part in (self.query, self.key, self.value)))
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return y


class TextClassifier(nn.Module):
    """A transformer encoder on token ids [N, T], int64, and a class from its first token."""

    def __init__(self, vocabulary: int, tokens: int, width: int, heads: int, layers: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.3 * torch.randn(1, tokens, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, 4 * width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position
        for layer in self.layers:
            x = layer(x)
        y: Tensor = self.head(self.norm(x)[:, 0])
        return y


class BinaryConv1d(nn.Conv1d):
    """±1 by ±1 along time, behind a learnt shift."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, kernel // 2, bias=False)
        self.shift = Shift(channels, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        signs: Tensor = ClippedSign.apply(self.shift(x))
        return self._conv_forward(signs, binarized(self.weight), None)


class TemporalBlock(nn.Module):
    """Two binary convolutions along time with a shortcut; the shortcut of a stride is an average and a 1x1 one."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = BinaryConv1d(channels, out, kernel, stride), BinaryConv1d(out, out, kernel)
        self.norm1, self.norm2 = nn.BatchNorm1d(out), nn.BatchNorm1d(out)
        self.act = nn.PReLU(out)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.AvgPool1d(stride, ceil_mode=True), nn.Conv1d(channels, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(self.conv1(x)) + self.shortcut(x))
        z: Tensor = self.norm2(self.conv2(y)) + y
        return z


class KeywordSpotter(nn.Module):
    """MFCCs [N, features, frames] to a keyword."""

    def __init__(self, features: int, widths: tuple[int, ...], kernel: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(features, widths[0], 3, padding=1)
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*(TemporalBlock(a, b, kernel, 2) for a, b in pairs))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(self.stem(x)).mean(2))
        return y


class BinaryBlock(nn.Module):
    """A binary 3x3 convolution of the signs of a shifted map, batch norm, PReLU; a shortcut where the shape stays."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.shift = Shift(channels, 1, 4)
        self.sign = PolynomialSign()
        self.conv = ScaledBinaryConv2d(channels, out, 3, stride, 1)
        self.norm, self.act = nn.BatchNorm2d(out), nn.PReLU(out)
        self.has_shortcut = channels == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(self.sign(self.shift(x))))
        z: Tensor = self.act(y + x if self.has_shortcut else y)
        return z


class UNet(nn.Module):
    """Maps of [N, 3, H, W] to logits of [N, classes, H, W]: max-pools down, bilinear up, skips concatenated."""

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.Sequential(BinaryBlock(a, b), BinaryBlock(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(nn.Sequential(BinaryBlock(a + b, a), BinaryBlock(a, a)) for a, b in reversed(pairs))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(F.max_pool2d(x, 2))
        for block in self.up:
            skip = skips.pop()
            x = block(torch.cat([skip, F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)], 1))
        y: Tensor = self.head(x)
        return y


class Detector(nn.Module):
    """Boxes and class scores on three scales: a dict of six maps, and all boxes as one [N, anchors, 4]."""

    def __init__(self, width: int, anchors: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        widths = [width * 2**scale for scale in range(4)]
        self.scales = nn.ModuleList(
            nn.Sequential(BinaryBlock(a, b, 2), BinaryBlock(b, b)) for a, b in itertools.pairwise(widths)
        )
        self.boxes = nn.ModuleList(nn.Conv2d(w, 4 * anchors, 3, padding=1) for w in widths[1:])
        self.classes = nn.ModuleList(nn.Conv2d(w, classes * anchors, 3, padding=1) for w in widths[1:])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        found: dict[str, Tensor] = {}
        rows = []
        for index, (scale, boxes, classes) in enumerate(zip(self.scales, self.boxes, self.classes, strict=True)):
            x = scale(x)
            found[f"scores{index}"] = torch.sigmoid(classes(x))
            rows.append(boxes(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
        found["boxes"] = torch.cat(rows, 1)
        return found


class PointNetwork(nn.Module):
    """Points [N, 3, P] to a class: the same layers for every point, the maximum over them, and a float head."""

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(3, widths[0], 1), nn.BatchNorm1d(widths[0]))
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [BinaryConv1d(a, b, 1), nn.BatchNorm1d(b), nn.Hardtanh()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, points: Tensor) -> Tensor:
        y: Tensor = self.head(self.layers(self.stem(points)).amax(2))
        return y


class SuperResolution(nn.Module):
    """An image four times as wide and high: a binary body between two shortcuts, and a pixel shuffle."""

    def __init__(self, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(BinaryBlock(width, width) for _ in range(blocks)))
        self.up = ScaledBinaryConv2d(width, width * scale, 3, 1, 1)
        self.shift = Shift(width, 1, 4)
        self.shuffle = nn.PixelShuffle(scale // 2)
        self.head = nn.Conv2d(width * scale // (scale // 2) ** 2, 3 * (scale // 2) ** 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = self.body(y) + y
        y = self.shuffle(self.up(PolynomialSign()(self.shift(y))))
        z: Tensor = F.pixel_shuffle(self.head(y), self.scale // 2)
        return z + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


class Recurrent(nn.Module):
    """A spectrogram [N, 1, bands, frames] to a class: binary convolutions, then an LSTM along time."""

    def __init__(self, widths: tuple[int, ...], hidden: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1)
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*(nn.Sequential(BinaryBlock(a, b, 2), BinaryBlock(b, b)) for a, b in pairs))
        self.lstm = nn.LSTM(widths[-1], hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(self.stem(x)).amax(2).transpose(1, 2)
        y, _ = self.lstm(y)
        z: Tensor = self.head(y[:, -1])
        return z


def text_classifier() -> nn.Module:
    torch.manual_seed(0)
    return randomize(TextClassifier(2000, tokens=128, width=256, heads=4, layers=4, classes=4))


def keyword_spotter() -> nn.Module:
    torch.manual_seed(0)
    return randomize(KeywordSpotter(40, (64, 96, 128, 160), kernel=9, classes=12))


def unet() -> nn.Module:
    torch.manual_seed(0)
    return randomize(UNet((32, 64, 128, 256), classes=3))


def detector() -> nn.Module:
    torch.manual_seed(0)
    return randomize(Detector(32, anchors=3, classes=20))


def point_network() -> nn.Module:
    torch.manual_seed(0)
    return randomize(PointNetwork((64, 128, 256, 1024), classes=40))


def super_resolution() -> nn.Module:
    torch.manual_seed(0)
    return randomize(SuperResolution(64, blocks=8, scale=4))


def recurrent() -> nn.Module:
    torch.manual_seed(0)
    return randomize(Recurrent((32, 64, 128), hidden=64, classes=12))


@dataclass(frozen=True)
class Application:
    """input: as --input-shape has it.  binary: how many layers are."""

    input: str
    binary: int


APPLICATIONS = {
    "text_classifier": Application("ids=1x128:int64", binary=4 * 6),
    "keyword_spotter": Application("1x40x101", binary=3 * 2),
    "unet": Application("1x3x128x128", binary=3 * 4),
    "detector": Application("1x3x256x256", binary=3 * 2),
    "point_network": Application("1x3x1024", binary=3),
    "super_resolution": Application("1x3x64x64", binary=8 + 1),
    "recurrent": Application("1x1x40x100", binary=2 * 2),
}
