"""Operators that PyTorch networks use beside convolutions: compiled from a module, proven on both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.inference.runners import available_runtimes
from bnncc.verification import verify
from tests.targets.interpreter.native import InterpreterRunner

# Of an output's largest magnitude, free-running: some sums and functions of the C library.
TOLERANCE = 1e-5

Shape = tuple[int, ...]
CASES: dict[str, tuple[Callable[[], nn.Module], list[Shape]]] = {}


class Apply(nn.Module):
    """A function of the parts, if there are any, and of the inputs."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.parts, *inputs)


def case(name: str, *shapes: Shape) -> Callable[[Callable[[], nn.Module]], None]:
    def register(factory: Callable[[], nn.Module]) -> None:
        assert name not in CASES
        CASES[name] = factory, list(shapes)

    return register


def function(name: str, *shapes: Shape) -> Callable[[Callable[..., Any]], None]:
    return lambda called: case(name, *shapes)(lambda: Apply(called))


MAP, ROWS, IMAGE = (2, 6, 5, 7), (2, 5, 7), (2, 3, 9, 11)

case("layer norm over two axes", (2, 3, 5, 7))(lambda: nn.LayerNorm([5, 7]))
case("layer norm of channels", MAP)(
    lambda: Apply(lambda norm, x: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(6))
)
case("group norm", (2, 12, 5, 7))(lambda: nn.GroupNorm(3, 12))
case("instance norm", MAP)(lambda: nn.InstanceNorm2d(6, affine=True))
case("rms norm", ROWS)(lambda: nn.RMSNorm(7))
case("batch norm without running statistics", MAP)(lambda: nn.BatchNorm2d(6, track_running_stats=False))
case("local response norm", (2, 7, 5, 3))(lambda: nn.LocalResponseNorm(5))
function("attention", (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))(F.scaled_dot_product_attention)
function("causal attention", *[(2, 3, 5, 8)] * 3)(
    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
)
case("multi-head attention", (2, 5, 12))(
    lambda: Apply(lambda attend, x: attend(x, x, x)[0], nn.MultiheadAttention(12, 3, batch_first=True))
)
case("transformer layer", (2, 5, 12))(lambda: nn.TransformerEncoderLayer(12, 3, 20, batch_first=True))
case("lstm", ROWS)(lambda: Apply(lambda layer, x: layer(x)[0], nn.LSTM(7, 6, 2, bidirectional=True, batch_first=True)))
case("lstm's states", (5, 2, 7))(lambda: Apply(lambda layer, x: layer(x)[1], nn.LSTM(7, 6)))
case("gru", (5, 2, 7))(lambda: Apply(lambda layer, x: layer(x), nn.GRU(7, 6, bidirectional=True)))
case("rnn", (5, 2, 7))(lambda: Apply(lambda layer, x: layer(x)[0], nn.RNN(7, 6)))
case("conv3d", (2, 3, 5, 6, 7))(lambda: nn.Conv3d(3, 5, 3, stride=(2, 1, 2), padding=1))
case("grouped conv3d", (1, 4, 5, 6, 7))(lambda: nn.Conv3d(4, 6, (2, 3, 1), dilation=(2, 1, 1), groups=2))
case("3-D pools", (1, 4, 8, 9, 7))(lambda: nn.Sequential(nn.MaxPool3d(2), nn.AvgPool3d(2, padding=1)))
for mode in ("bilinear", "nearest", "bicubic"):
    function(f"grid_sample, {mode}", (2, 3, 5, 7), (2, 4, 6, 2))(
        lambda x, g, mode=mode: F.grid_sample(x, torch.tanh(g) * 1.2, mode=mode, align_corners=False)
    )
for padding in ("border", "reflection"):
    function(f"grid_sample, {padding}", (2, 3, 5, 7), (2, 4, 6, 2))(
        lambda x, g, padding=padding: F.grid_sample(x, g, padding_mode=padding, align_corners=True)
    )
function("roll", (2, 5, 4, 6))(lambda x: torch.roll(x, (2, -1), (1, 3)))
case("unfold", (2, 3, 5, 7))(lambda: nn.Unfold((2, 3), padding=1, stride=2))
case("fold", (2, 18, 16))(lambda: nn.Fold((6, 7), (2, 3), padding=1, stride=2))
case("adaptive average pool", (2, 4, 7, 11))(lambda: nn.AdaptiveAvgPool2d((3, 5)))
case("dilated max pool", (2, 3, 11, 13))(lambda: nn.MaxPool2d(3, 2, padding=1, dilation=2))
function("bicubic", (2, 3, 5, 7))(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"))
function("bicubic, corners aligned", (2, 3, 5, 7))(
    lambda x: F.interpolate(x, size=(9, 4), mode="bicubic", align_corners=True)
)
function("antialiased", IMAGE)(lambda x: F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True))
function("nearest-exact", (2, 3, 5, 7))(lambda x: F.interpolate(x, size=(8, 4), mode="nearest-exact"))
function("argmax", ROWS)(lambda x: torch.argmax(x, 1))
function("cumsum", ROWS)(lambda x: torch.cumsum(x, 2))
function("tril", ROWS)(lambda x: torch.tril(x, -1))
function("remainder", ROWS)(lambda x: torch.remainder(x, 0.75))
function("logsumexp", ROWS)(lambda x: torch.logsumexp(x * 100, 1))
function("einsum", (2, 3, 5, 4), (2, 3, 6, 4))(lambda a, b: torch.einsum("bhid,bhjd->bhij", a, b))
function("einsum over channels", (2, 3, 5, 4), (6, 3))(lambda a, b: torch.einsum("nchw,kc->nkhw", a, b))
function("prod", ROWS)(lambda x: x.prod(1))
function("norm", ROWS)(lambda x: x.norm(dim=1))
function("standard deviation", ROWS)(lambda x: x / x.std([1, 2], keepdim=True) - 0.3)
function("masked_fill", ROWS)(lambda x: x.masked_fill(x > 0.5, -1))
function("relu6", ROWS)(F.relu6)
function("gather", ROWS)(lambda x: torch.gather(x, 1, x.argmax(1, keepdim=True)))
case("embedding of computed ids", (2, 9, 3))(lambda: Apply(lambda layer, x: layer(x.argmax(1)), nn.Embedding(9, 4)))
function("one_hot", (2, 5))(lambda x: F.one_hot(x.argmax(1), 5).float())
function("conv2d with computed weights", (2, 3, 7, 8), (5, 3, 3, 3))(lambda x, w: F.conv2d(x, w, stride=2, padding=1))
function("depthwise with computed weights", (2, 4, 7, 8), (4, 1, 3, 3))(
    lambda x, w: F.conv2d(x, w, padding=1, groups=4)
)
function("conv1d with computed weights", (2, 4, 9), (6, 4, 3))(lambda x, w: F.conv1d(x, w, padding=1))
function("conv_transpose2d with computed weights", (2, 4, 7, 8), (4, 3, 3, 3))(
    lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1)
)
function("linear with computed weights", (2, 3, 7), (5, 7))(F.linear)


@function("slice assignment", MAP)
def _slice_assignment(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:3] = x[:, 2:4] * 2
    x[:, :, ::2] = 0.5
    return x


@function("index_put", (2, 5, 6))
def _index_put(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, torch.tensor([0, 3])] = 1.5
    return x.index_put((torch.tensor([0, 1]), torch.tensor([1, 2])), torch.tensor(2.0))


@pytest.mark.parametrize("name", CASES)
def test_a_module_compiles_to_what_it_computes(name: str) -> None:
    factory, shapes = CASES[name]
    torch.manual_seed(0)
    module = factory().eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():  # distinct numbers of both signs
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    compiled = bnncc.compile(module, input_shapes=shapes)
    rng = np.random.default_rng(0)
    inputs = [[rng.standard_normal(shape, dtype=np.float32) for shape in shapes] for _ in range(2)]
    for runtime in available_runtimes():
        found = verify(compiled, inputs, runtime=runtime)
        assert found.passed, found.problems
        assert found.free_error <= TOLERANCE
    stored = [compiled.options.as_stored(array) for array in inputs[0]]
    assert InterpreterRunner(compiled.content).run(stored)
