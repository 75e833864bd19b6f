"""Small networks as other people write them, one kind of difficulty each.

`NETWORKS` has the factories, which return modules in eval mode with random, distinct parameters, and the shapes of
their inputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .randomize import randomize


@dataclass(frozen=True)
class Network:
    """How to make a network, and what it takes: one shape, or text as `--input-shape` has it, for each input."""

    make: Callable[[], nn.Module]
    shapes: Sequence[str]


NETWORKS: dict[str, Network] = {}


def network(*shapes: str) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a factory under its name."""

    def register(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            torch.manual_seed(0)
            return factory().eval()

        NETWORKS[factory.__name__] = Network(make, shapes)
        return make

    return register


IMAGE, MAP, ROWS = "1x3x24x24", "1x32x8x8", "1x16x64"


def sign(x: Tensor) -> Tensor:
    """+1 where x ≥ 0, else -1."""
    return torch.where(x >= 0, 1.0, -1.0)


class Apply(nn.Module):
    """A function of the inputs, or of this module's parts and the inputs."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*([self.parts] if len(self.parts) else []), *inputs)


class SignConv(nn.Module):
    """±1 weights on whatever it is given, padded with `fill`."""

    def __init__(self, channels: int, out: int, kernel: int = 3, padding: int = 1, fill: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, channels, kernel, kernel))
        self.padding, self.fill = padding, fill

    def forward(self, x: Tensor) -> Tensor:
        if self.padding:
            x = F.pad(x, (self.padding,) * 4, value=self.fill)
        return F.conv2d(x, sign(self.weight))


class SignLinear(nn.Linear):
    """±1 by ±1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign(x), sign(self.weight), self.bias)


def classifier(*layers: nn.Module) -> nn.Module:
    """A float stem, the layers on 48 channels, the mean of the map, a Linear."""
    pool = Apply(lambda x: x.mean((2, 3)))
    return nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), *layers, pool, nn.Linear(48, 10))


# What copies, traces, memory formats and outputs are made of


@network(IMAGE)
def holds_a_lock() -> nn.Module:
    module = classifier(Apply(sign), SignConv(48, 48))
    module.lock = threading.Lock()  # type: ignore[assignment]
    return module


@network(IMAGE)
def channels_last() -> nn.Module:
    return classifier(Apply(sign), SignConv(48, 48)).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@network(IMAGE)
def traced() -> nn.Module:
    module: nn.Module = torch.jit.trace(classifier(Apply(sign), SignConv(48, 48)).eval(), torch.randn(1, 3, 24, 24))  # type: ignore[no-untyped-call]
    return module


@network(IMAGE)
def scripted() -> nn.Module:
    module: nn.Module = torch.jit.script(nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU()))
    return nn.Sequential(module, Apply(lambda x: sign(x - 0.1)), SignConv(32, 40))


@network(IMAGE)
def half() -> nn.Module:
    binary = Apply(
        lambda parts, x: F.conv2d(sign(x).to(x.dtype), sign(parts[0].weight).to(x.dtype)), nn.Conv2d(48, 48, 1)
    )
    return classifier(binary).half()


@network(IMAGE)
def scalar_beside_logits() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> tuple[Tensor, Tensor]:
        y = parts[0](x)
        return y, y.mean()

    return Apply(forward, classifier(Apply(sign), SignConv(48, 48)))


@dataclass
class Result:
    """What a forward may return."""

    logits: Tensor
    features: dict[str, Tensor]


@network(IMAGE)
def dataclass_of_a_dict() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> Result:
        y = parts[0](x)
        return Result(y, {"twice": 2 * y})

    return Apply(forward, classifier(Apply(sign), SignConv(48, 48)))


# Operators that an exporter writes in its own way


@network(MAP)
def deviation_in_front() -> nn.Module:
    return Apply(lambda parts, x: parts[0](sign(x / x.std([1, 2, 3], keepdim=True) - 0.3)), SignConv(32, 32))


@network(MAP)
def masked_fill() -> nn.Module:
    return Apply(lambda parts, x: parts[0](sign(x)).masked_fill(x > 2, -1), SignConv(32, 32))


@network(MAP)
def relu6_function() -> nn.Module:
    return Apply(lambda parts, x: F.relu6(parts[0](sign(x))), SignConv(32, 32))


@network(MAP)
def gated_by_a_chunk() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> Tensor:
        a, b = parts[0](sign(x)).chunk(2, 1)
        return a * torch.sigmoid(b)

    return Apply(forward, SignConv(32, 40))


@network(MAP)
def empty_slice() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> Tensor:
        y = parts[0](sign(x))
        return torch.cat([y[:, :7], y[:, 7:7], y[:, 7:]], 1)

    return Apply(forward, SignConv(32, 32))


@network(MAP)
def dropout_last() -> nn.Module:
    return nn.Sequential(Apply(sign), SignConv(32, 32), nn.Dropout(0.5))


@network("1x32x40")
def one_dimension_padded_with_one() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> Tensor:
        return F.conv1d(sign(F.pad(x, (1, 1), value=1.0)), sign(parts[0].weight), stride=2)

    return Apply(forward, nn.Conv1d(32, 32, 3))


@network(ROWS)
def layer_norm() -> nn.Module:
    return Apply(lambda parts, x: F.gelu(parts[0](parts[1](x))), SignLinear(64, 64), nn.LayerNorm(64))


@network(MAP)
def group_norm() -> nn.Module:
    return Apply(lambda parts, x: F.silu(parts[1](parts[0](sign(x)))), SignConv(32, 32), nn.GroupNorm(4, 32))


@network(MAP)
def instance_norm() -> nn.Module:
    return Apply(lambda parts, x: parts[1](parts[0](sign(x))), SignConv(32, 32), nn.InstanceNorm2d(32, affine=True))


class Tokens(nn.Module):
    """ids: int64 [1, 16], below 100."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(100, 64), SignLinear(64, 64)

    def forward(self, ids: Tensor) -> Tensor:
        result: Tensor = self.linear(self.embedding(ids))
        return result


@network("ids=1x16:int64")
def token_ids() -> nn.Module:
    return Tokens()


# What rounds, cancels and ties


@network("1x1024")
def logits_smaller_than_what_cancels() -> nn.Module:
    """The batch norm's output is much larger than what the clip lets through."""
    norm = randomize(nn.BatchNorm1d(1024), 1)
    return nn.Sequential(SignLinear(1024, 1024, bias=False), norm, nn.Hardtanh(), nn.Linear(1024, 10))


@network(IMAGE)
def rounding_ties() -> nn.Module:
    """4-bit values, averaged in fours, rounded again: every fourth one is an exact tie."""

    def quantize(x: Tensor) -> Tensor:
        return torch.round((x.clamp(-1, 1) + 1) / (2 / 15)) * (2 / 15) - 1

    def forward(parts: nn.ModuleList, x: Tensor) -> Tensor:
        t = quantize(F.avg_pool2d(quantize(parts[0](x)), 2))
        return parts[2]((parts[1](sign(t)) + t).mean((2, 3)))

    return Apply(forward, nn.Conv2d(3, 64, 3, padding=1), SignConv(64, 64), nn.Linear(64, 10))


# What the proof's own inputs do not show


@network("1x3x12x12")
def branch_on_data() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> Tensor:
        if x.max() > 100:
            x = x / 255.0
        return parts[1](sign(parts[0](x)))

    return Apply(forward, nn.Conv2d(3, 32, 1), SignConv(32, 32))


@network("1x3x12x12")
def sign_of_pixels() -> nn.Module:
    return Apply(lambda parts, x: parts[0](torch.sign(x)), SignConv(3, 32))
