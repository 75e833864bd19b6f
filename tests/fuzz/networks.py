"""Random binary networks: a specification that hypothesis draws and shrinks, and the module that it describes.

A network is a stem, a few layers and a head.  Each layer binarises its input in one of the ways seen in the wild,
convolves it with binary weights made in one of the ways seen in the wild, and does to the sums what papers do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

BINARIZERS = ("sign", "ste", "where", "hardtanh", "twice", "negative scale", "batch norm", "step", "round", "relu")
# The binarisers that yield 0 and 1.
STEPS = ("step", "round", "relu")
WEIGHTS = ("sign", "mean", "ste", "standardized", "learnt", "power of two")
ACTIVATIONS = ("none", "prelu", "rprelu", "relu", "hardtanh", "fprelu")
SHORTCUTS = ("none", "identity", "average", "concat")
HEADS = ("pool", "flatten", "binary", "half binary", "map")


@dataclass(frozen=True)
class Layer:
    """One binary layer.  padding: (left, right, top, bottom)."""

    binarizer: str
    shift: bool
    weights: str
    channels: int
    kernel: tuple[int, int]
    stride: int
    dilation: int
    padding: tuple[int, int, int, int]
    groups: int
    repeat: int
    pool: str
    norm: bool
    activation: str
    shortcut: str
    split: bool


@dataclass(frozen=True)
class Network:
    """A whole network.  seed: of its parameters."""

    size: tuple[int, int]
    stem: int
    layers: tuple[Layer, ...]
    head: str
    second_output: bool
    seed: int
    shapes: tuple[tuple[int, int, int], ...] = field(default=(), compare=False)


def _output(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


@st.composite
def layers(draw: st.DrawFn, channels: int, size: tuple[int, int]) -> tuple[Layer, tuple[int, int, int]]:
    """A layer that fits a map of `channels` and `size`, and the shape (C, H, W) that it yields."""
    height, width = size
    stride = draw(st.sampled_from((1, 1, 2, 2, 3)))
    dilation = draw(st.sampled_from((1, 1, 1, 2)))
    kernel = (draw(st.sampled_from((1, 3, 3, 5, 2))), 0)
    kernel = (kernel[0], kernel[0] if draw(st.booleans()) else draw(st.sampled_from((1, 3))))
    same = tuple((k - 1) * dilation // 2 for k in kernel)
    padding = draw(
        st.sampled_from(
            ((same[1], same[1], same[0], same[0]), (same[1], same[1], same[0], same[0]), (0, 0, 0, 0), (1, 0, 2, 1))
        )
    )
    reach = [(k - 1) * dilation + 1 for k in kernel]
    if height + padding[2] + padding[3] < reach[0] or width + padding[0] + padding[1] < reach[1]:
        kernel, padding, dilation = (1, 1), (0, 0, 0, 0), 1
    divisors = [group for group in (1, 1, 2, 3, 4) if channels % group == 0]
    groups = draw(st.sampled_from(divisors))
    repeat = draw(st.sampled_from((1, 1, 1, 2, 4)))
    own = groups * draw(st.integers(1, max(1, 200 // groups // repeat // 2)))
    out = own * repeat
    shape = (
        out,
        _output(height, kernel[0], stride, dilation, padding[2], padding[3]),
        _output(width, kernel[1], stride, dilation, padding[0], padding[1]),
    )
    shortcut = draw(st.sampled_from(SHORTCUTS))
    if shortcut == "identity" and shape != (channels, height, width):
        shortcut = "none"
    if shortcut == "average" and not (
        out == channels and stride == 2 and shape[1:] == (height // 2, width // 2) and min(height, width) > 1
    ):
        shortcut = "none"
    if shortcut == "concat" and (shape[1:] != (height, width) or out + channels > 200):
        shortcut = "none"
    pool = "none"
    if shortcut == "none" and min(shape[1:]) >= 2:
        pool = draw(st.sampled_from(("none", "none", "max before", "max after")))
    if pool != "none":
        shape = (out, shape[1] // 2, shape[2] // 2)
    if shortcut == "concat":
        shape = (out + channels, *shape[1:])
    layer = Layer(
        draw(st.sampled_from(BINARIZERS)),
        draw(st.booleans()),
        draw(st.sampled_from(WEIGHTS)),
        own,
        kernel,
        stride,
        dilation,
        padding,
        groups,
        repeat,
        pool,
        draw(st.booleans()),
        draw(st.sampled_from(ACTIVATIONS)),
        shortcut,
        draw(st.booleans()),
    )
    return layer, shape


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A network of one to four binary layers on a small map."""
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    stem = draw(st.one_of(st.integers(1, 40), st.sampled_from((32, 64, 96)), st.integers(1, 200)))
    shape = (stem, *size)
    chosen = []
    for _ in range(draw(st.integers(1, 4))):
        layer, shape = draw(layers(shape[0], shape[1:]))
        chosen.append(layer)
    return Network(
        size,
        stem,
        tuple(chosen),
        draw(st.sampled_from(HEADS)),
        draw(st.booleans()),
        draw(st.integers(0, 2**16)),
        (shape,),
    )


class RandomLayer(nn.Module):
    """The module of a `Layer`, with distinct random parameters."""

    def __init__(self, spec: Layer, channels: int) -> None:
        super().__init__()
        self.spec = spec
        out = spec.channels * spec.repeat
        self.shift = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.3)
        self.before = _norm(channels)
        fan_in = channels // spec.groups * spec.kernel[0] * spec.kernel[1]
        weight = torch.randn(spec.channels, channels // spec.groups, *spec.kernel) * 0.05
        self.weight = nn.Parameter(torch.where(weight == 0, torch.full_like(weight, 0.05), weight))
        self.scale = nn.Parameter(torch.rand(spec.channels, 1, 1) + 0.5)
        self.bias = nn.Parameter(torch.randn(spec.channels) * 0.2)
        self.norm = _norm(out, fan_in**0.5 if spec.weights in ("sign", "standardized", "learnt") else 1.0)
        self.moves = nn.ParameterList([torch.randn(1, out, 1, 1) * 0.3 for _ in range(2)])
        self.slope = nn.PReLU(out)
        self.slopes = nn.ParameterList([torch.randn(1, out, 1, 1) for _ in range(2)])
        with torch.no_grad():
            self.slope.weight.copy_(torch.rand(out) * 0.6 - 0.1)

    def binarize(self, x: Tensor) -> Tensor:
        kind = self.spec.binarizer
        if self.spec.shift:
            x = x + self.shift
        if kind == "sign":
            return torch.sign(x)
        if kind == "ste":
            clipped = torch.clamp(x, -1, 1)
            return (torch.sign(x) - clipped).detach() + clipped
        if kind == "where":
            return torch.where(x >= 0, 1.0, -1.0)
        if kind == "hardtanh":
            return torch.sign(F.hardtanh(x))
        if kind == "twice":
            return torch.sign(torch.sign(x) + 0.1)
        if kind == "negative scale":
            return torch.sign(-0.7 * x + 0.01)
        if kind == "batch norm":
            return torch.sign(self.before(x))
        if kind == "step":
            return (x > 0).float()
        if kind == "round":
            return torch.round(torch.clamp(x, 0, 1))
        return torch.sign(F.relu(x))

    def filters(self) -> Tensor:
        kind, w = self.spec.weights, self.weight
        mean = w.abs().mean(dim=(1, 2, 3), keepdim=True)
        if kind == "mean":
            return mean * torch.sign(w)
        if kind == "ste":
            clipped = torch.clamp(w, -1, 1)
            return (mean * torch.sign(w)).detach() - clipped.detach() + clipped
        if kind == "standardized":
            centred = w - w.mean(dim=(1, 2, 3), keepdim=True) - 1e-4
            return torch.sign(centred / (w.std(correction=0) + 1e-5))  # of one weight, any other is NaN
        if kind == "power of two":
            return torch.pow(2.0, torch.round(torch.log2(mean))) * torch.sign(w)
        return torch.sign(w)

    def forward(self, x: Tensor) -> Tensor:
        spec = self.spec
        signs = self.binarize(x)
        left, right, top, bottom = spec.padding
        if left == right and top == bottom:
            padding = (top, left)
        else:
            signs, padding = F.pad(signs, spec.padding), (0, 0)
        # Without a bias or a norm behind it, a sum of ±1 is exactly 0 more often than by chance.
        bias = None if spec.weights == "ste" and spec.norm else self.bias
        y = F.conv2d(signs, self.filters(), bias, spec.stride, padding, spec.dilation, spec.groups)
        if spec.weights == "learnt":
            y = y * self.scale
        if spec.repeat > 1:
            y = y.repeat(1, spec.repeat, 1, 1) if spec.split else torch.cat([y] * spec.repeat, dim=1)
        if spec.pool == "max before":
            y = F.max_pool2d(y, 2)
        if spec.norm:
            y = self.norm(y)
        if spec.pool == "max after":
            y = F.max_pool2d(y, 2)
        if spec.shortcut == "identity":
            y = y + x
        elif spec.shortcut == "average":
            y = y + F.avg_pool2d(x, 2)
        y = self.activate(y)
        return torch.cat([y, x], dim=1) if spec.shortcut == "concat" else y

    def activate(self, y: Tensor) -> Tensor:
        kind = self.spec.activation
        if kind == "prelu":
            return self.slope(y)
        if kind == "rprelu":
            return self.slope(y + self.moves[0]) + self.moves[1]
        if kind == "relu":
            return F.relu(y)
        if kind == "hardtanh":
            return F.hardtanh(y)
        if kind == "fprelu":
            return torch.clamp(y, min=0) * self.slopes[0] + torch.clamp(y, max=0) * self.slopes[1]
        return y


class RandomNetwork(nn.Module):
    """The module of a `Network`.  Input [1, 3, H, W]."""

    def __init__(self, spec: Network) -> None:
        super().__init__()
        torch.manual_seed(spec.seed)
        self.spec = spec
        self.stem = nn.Conv2d(3, spec.stem, 1)
        self.norm = _norm(spec.stem)
        channels, size, chosen = spec.stem, spec.size, []
        for layer in spec.layers:
            chosen.append(RandomLayer(layer, channels))
            with torch.no_grad():
                channels, *size = chosen[-1].eval()(torch.zeros(1, channels, *size)).shape[1:]
        self.layers = nn.ModuleList(chosen)
        features = channels if spec.head in ("pool", "map") else channels * size[0] * size[1]
        self.fc = nn.Linear(features, 7)
        self.eval()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = first = self.norm(self.stem(x))
        for layer in self.layers:
            x = layer(x)
        if self.spec.head == "map":
            result = x
        elif self.spec.head == "pool":
            result = self.fc(x.mean(dim=(2, 3)))
        elif self.spec.head == "flatten":
            result = self.fc(torch.flatten(x, 1))
        else:
            signs = torch.sign(torch.flatten(x, 1) + 0.01)
            weight = self.fc.weight if self.spec.head == "half binary" else torch.sign(self.fc.weight)
            result = F.linear(signs, weight, self.fc.bias)
        return (result, first) if self.spec.second_output else result


def _norm(channels: int, scale: float = 1.0) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.copy_((torch.rand(channels) + 0.4) * torch.where(torch.rand(channels) < 0.3, -1.0, 1.0))
        norm.bias.copy_(torch.randn(channels) * 0.3)
        norm.running_mean.copy_(torch.randn(channels) * 0.3 * scale)
        norm.running_var.copy_((torch.rand(channels) + 0.5) * scale**2)
    return norm
