"""Random networks as programs: a list of steps, each of which does to the current maps what one idiom of papers does.

What `networks.py` does not have: modules that are called twice, several inputs and outputs, splits and concatenations,
squeeze-excite, up-sampling, replicated and reflected borders of ±1 maps, ceil-mode pools, channel shuffles, one
dimension, sums of two binary convolutions in front of a sign, clip and round quantisers.

A program may be *exact*: all its parameters and inputs are integers and powers of two, of so few bits that every
float32 operation on them is exact in whatever order it is done.  Then the file's outputs must be equal, without any
tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("conv", "again", "sum of two", "split", "shuffle", "gate", "up", "pool", "quantize", "add", "concat")
PADDINGS = ("zeros", "ones", "replicate", "reflect")
ACTIVATIONS = ("none", "prelu", "relu", "hardtanh", "pool before the norm", "relu before the norm")
MOST_CHANNELS = 160
LARGEST_SIZE = 24


@dataclass(frozen=True)
class Step:
    """kind: one of KINDS.  channels to activation: of its convolutions.  choice: which variant."""

    kind: str
    channels: int
    kernel: int
    stride: int
    padding: str
    activation: str
    choice: int


@dataclass(frozen=True)
class Program:
    """inputs, outputs: how many.  flat: one dimension, [1, C, L]; else [1, C, H, W].  seed: of the parameters."""

    size: tuple[int, int]
    stem: int
    steps: tuple[Step, ...]
    flat: bool
    exact: bool
    inputs: int
    outputs: int
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each input."""
        return (1, 3, self.size[0]) if self.flat else (1, 3, *self.size)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """One to five steps, the first of them a binary convolution."""
    channels = st.one_of(st.integers(1, 40), st.sampled_from((32, 64)))
    steps = [
        Step(
            "conv" if index == 0 else draw(st.sampled_from(KINDS)),
            draw(channels),
            draw(st.sampled_from((1, 3, 3, 2))),
            draw(st.sampled_from((1, 1, 2))),
            draw(st.sampled_from(PADDINGS)),
            draw(st.sampled_from(ACTIVATIONS)),
            draw(st.integers(0, 7)),
        )
        for index in range(draw(st.integers(1, 5)))
    ]
    return Program(
        draw(st.tuples(st.integers(1, 10), st.integers(1, 10))),
        2 * draw(st.integers(1, 34)),
        tuple(steps),
        draw(st.booleans()) and draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from((1, 1, 2))),
        draw(st.sampled_from((1, 1, 2))),
        draw(st.integers(0, 2**16)),
    )


def image(spec: Program, generator: torch.Generator) -> Tensor:
    """One input: normal numbers, or integers where the program is exact."""
    if spec.exact:
        return torch.randint(-8, 9, spec.shape, generator=generator).float()
    return torch.randn(spec.shape, generator=generator)


class _Parameters:
    """Random tensors, exact ones or not."""

    def __init__(self, exact: bool) -> None:
        self.exact = exact

    def scale(self, *shape: int) -> Tensor:
        """Positive factors around 1."""
        return torch.exp2(torch.randint(-1, 2, shape).float()) if self.exact else torch.rand(shape) + 0.5

    def factor(self, *shape: int) -> Tensor:
        """Factors of both signs."""
        return self.scale(*shape) * torch.where(torch.rand(shape) < 0.3, -1.0, 1.0)

    def shift(self, *shape: int) -> Tensor:
        return torch.randint(-4, 5, shape) / 2 if self.exact else torch.randn(shape) * 0.3

    def weight(self, *shape: int) -> Tensor:
        """Of a float layer."""
        return torch.randint(-2, 3, shape) / 2 if self.exact else torch.randn(shape) * 0.3

    def signs(self, *shape: int) -> Tensor:
        """Latent weights of a binary layer, none of them 0."""
        w = torch.randn(shape)
        return torch.where(w == 0, torch.ones(()), w)

    def norm(self, channels: int, flat: bool) -> nn.Module:
        norm = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(channels, eps=0.0 if self.exact else 1e-5)
        with torch.no_grad():
            norm.weight.copy_(self.factor(channels))
            norm.bias.copy_(self.shift(channels))
            norm.running_mean.copy_(self.shift(channels))
            norm.running_var.copy_(self.scale(channels) ** 2 * 16)
        return norm.eval()


class _Binary(nn.Module):
    """sign(x + shift), or sign(norm(x)), padded and convolved with α·sign(w), then a norm and an activation."""

    def __init__(self, make: _Parameters, step: Step, channels: int, out: int, flat: bool, stride: int) -> None:
        super().__init__()
        self.step, self.flat, self.stride = step, flat, stride
        ones = (1,) if flat else (1, 1)
        self.exact = make.exact
        self.shift = nn.Parameter(make.shift(1, channels, *ones))
        self.front = make.norm(channels, flat)
        self.weight = nn.Parameter(make.signs(out, channels, *(step.kernel for _ in ones)))
        self.alpha = nn.Parameter(make.scale(out, 1, *ones))
        self.norm = make.norm(out, flat)
        self.slope = nn.Parameter(make.scale(out) / 4)

    def binarize(self, x: Tensor) -> Tensor:
        x = self.front(x) if self.step.choice >= 4 else x + self.shift
        if self.exact or self.step.choice % 2:  # integers are 0 more often than by chance, where torch.sign is 0
            return torch.where(x >= 0 if self.step.choice % 4 < 2 else x > 0, 1.0, -1.0)
        return torch.sign(x)

    def sums(self, x: Tensor) -> Tensor:
        """The convolution alone."""
        signs, pad = self.binarize(x), self.step.kernel // 2
        dims = 1 if self.flat else 2
        if pad and self.step.padding in ("ones", "replicate", "reflect"):
            mode = self.step.padding
            if mode == "reflect" and min(signs.shape[2:]) <= pad:
                mode = "replicate"
            amounts = [pad, pad] * dims
            signs = F.pad(signs, amounts, value=1.0) if mode == "ones" else F.pad(signs, amounts, mode=mode)
            pad = 0
        convolve = F.conv1d if self.flat else F.conv2d
        return convolve(signs, self.alpha * torch.sign(self.weight), None, self.stride, pad)

    def finish(self, y: Tensor) -> Tensor:
        """The norm and the activation."""
        if self.step.activation == "pool before the norm" and min(y.shape[2:]) >= 2:
            y = (F.max_pool1d if self.flat else F.max_pool2d)(y, 2)
        if self.step.activation == "relu before the norm":
            y = F.relu(y)
        y = self.norm(y)
        if self.step.activation == "prelu":
            return F.prelu(y, self.slope)
        if self.step.activation == "relu":
            return F.relu(y) - 0.5
        return F.hardtanh(y, -2.0, 2.0) if self.step.activation == "hardtanh" else y

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.sums(x))


class _Step(nn.Module):
    """One step on a map of `channels`; `previous`: the layer of the last convolution, for "again"."""

    def __init__(self, make: _Parameters, step: Step, channels: int, flat: bool, previous: _Binary | None) -> None:
        super().__init__()
        self.step, self.flat, self.exact = step, flat, make.exact
        self.layers = nn.ModuleList()
        if step.kind == "conv":
            self.layers.append(_Binary(make, step, channels, step.channels, flat, step.stride))
        elif step.kind == "again" and previous is not None:
            self.layers.append(previous)
        elif step.kind == "sum of two":
            self.layers.extend(_Binary(make, step, channels, step.channels, flat, step.stride) for _ in range(2))
        elif step.kind == "split" and channels > 1:
            self.layers.append(_Binary(make, step, channels // 2, channels // 2, flat, 1))
        elif step.kind == "gate":
            self.down = nn.Parameter(make.weight(max(1, channels // 4), channels) / 8)
            self.up = nn.Parameter(make.weight(channels, max(1, channels // 4)))

    def forward(self, x: Tensor, earlier: list[Tensor]) -> Tensor:
        kind = self.step.kind
        if kind in ("conv", "sum of two") or (kind == "again" and self.layers):
            return self._convolved(x)
        if kind == "split" and self.layers:
            return self._split(x)
        if kind in ("shuffle", "gate", "quantize"):
            return {"shuffle": self._shuffle, "gate": self._gate, "quantize": self._quantize}[kind](x)
        if kind == "up" and max(x.shape[2:]) * 2 <= LARGEST_SIZE:
            modes = ("nearest", "linear" if self.flat else "bilinear")
            mode = modes[self.step.choice % 2]
            return F.interpolate(x, scale_factor=2, mode=mode, align_corners=None if mode == "nearest" else False)
        if kind == "pool" and min(x.shape[2:]) >= 2:
            return self._pool(x)
        same = [y for y in earlier if y.shape[2:] == x.shape[2:]]
        if kind == "add":
            fitting = [y for y in same if y.shape == x.shape]
            return x + fitting[self.step.choice % len(fitting)] if fitting else x
        if kind == "concat" and same:
            other = same[self.step.choice % len(same)]
            return torch.cat([x, other], 1) if x.shape[1] + other.shape[1] <= MOST_CHANNELS else x
        return x

    def _convolved(self, x: Tensor) -> Tensor:
        first = self.layers[0]
        if x.shape[1] != first.weight.shape[1] or min(x.shape[2:]) + 2 * (first.step.kernel // 2) < first.step.kernel:
            return x
        if self.step.kind == "again":
            return first(x)
        sums = [layer.sums(x) for layer in self.layers]
        return first.finish(sums[0] + sums[1] if len(sums) > 1 else sums[0])

    def _split(self, x: Tensor) -> Tensor:
        (layer,) = self.layers
        half = layer.weight.shape[1]
        left, right = x[:, :half], x[:, half:]
        y = layer(left)
        return torch.cat([y, right], 1) if y.shape[2:] == right.shape[2:] else x

    def _shuffle(self, x: Tensor) -> Tensor:
        groups = 2 if x.shape[1] % 2 == 0 else 1
        return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)

    def _gate(self, x: Tensor) -> Tensor:
        dims = tuple(range(2, x.ndim))
        if self.exact:  # rounded at each step, so that the bits do not grow
            squeezed = F.relu(torch.round(F.linear(torch.round(x.sum(dims) / 16), self.down)))
            gate = torch.round(torch.clamp(F.linear(squeezed, self.up) / 4 + 0.5, 0, 1) * 4) / 4
        else:
            gate = torch.sigmoid(F.linear(F.relu(F.linear(x.mean(dims), self.down)), self.up))
        return x * gate.reshape(*gate.shape, *(1 for _ in dims))

    def _quantize(self, x: Tensor) -> Tensor:
        levels = 4
        return torch.round(torch.clamp(x, -1, 1) * levels) / levels

    def _pool(self, x: Tensor) -> Tensor:
        ceil = self.step.choice % 2 == 0
        if self.step.choice % 4 < 2:
            return (F.max_pool1d if self.flat else F.max_pool2d)(x, 2, 2, ceil_mode=ceil)
        return (F.avg_pool1d if self.flat else F.avg_pool2d)(x, 2, 2, ceil_mode=ceil)


class ProgramNetwork(nn.Module):
    """The module of a `Program`: one or two inputs; logits and, as a second output, the last map."""

    def __init__(self, spec: Program) -> None:
        super().__init__()
        torch.manual_seed(spec.seed)
        self.spec = spec
        make = _Parameters(spec.exact)
        convolution = nn.Conv1d if spec.flat else nn.Conv2d
        self.stem = convolution(3, spec.stem, 1)
        with torch.no_grad():
            self.stem.weight.copy_(make.weight(*self.stem.weight.shape))
            self.stem.bias.copy_(make.shift(spec.stem))
        self.steps = nn.ModuleList()
        x = torch.zeros(1, spec.stem, *spec.shape[2:])
        earlier, previous = [x], None
        for step in spec.steps:
            self.steps.append(_Step(make, step, x.shape[1], spec.flat, previous))
            if step.kind == "conv":
                previous = self.steps[-1].layers[0]
            with torch.no_grad():
                x = self.steps[-1](x, earlier)
            earlier.append(x)
        self.head = nn.Parameter(make.weight(5, x.shape[1]))
        self.bias = nn.Parameter(make.shift(5))
        self.eval()

    def _stem(self, x: Tensor) -> Tensor:
        # What is a tie by more than chance must follow from the network: its integers are no property of the data.
        return self.stem(torch.round(x) if self.spec.exact else x)

    def forward(self, x: Tensor, second: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        x = self._stem(x)
        if second is not None:
            x = x + self._stem(second)
        earlier = [x]
        for step in self.steps:
            x = step(x, earlier)
            earlier.append(x)
        logits = F.linear(x.sum(tuple(range(2, x.ndim))) / 16, self.head, self.bias)
        return (logits, x) if self.spec.outputs == 2 else logits
