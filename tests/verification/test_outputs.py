"""Outputs of every kind are compared: scalars, integers, booleans, constants, inputs, what a removed node named; and
convolutions over one axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.model import CompiledModel
from bnncc.verification import verify

CHANNELS = 32


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


class Net(nn.Module):
    """A function of this module and of the input."""

    def __init__(self, function: Callable[[Net, Tensor], object], kernel: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3)
        self.conv1d = nn.Conv1d(CHANNELS, CHANNELS, kernel)
        self.fc = nn.Linear(CHANNELS, 5)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("anchors", torch.randn(1, 3))
        self.eval()

    def binary(self, x: Tensor) -> Tensor:
        return F.conv2d(sign(x), sign(self.conv.weight), padding=1)

    def row(self, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv1d(x, sign(self.conv1d.weight), stride=stride, padding=padding)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def compiled(net: Net, shape: str) -> CompiledModel:
    return bnncc.compile(net, input_shapes=[shape])


def inputs_of(model: CompiledModel, count: int = 3) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(3)
    (spec,) = model.traced.inputs
    return [[generator.standard_normal(spec.shape, dtype=np.float32)] for _ in range(count)]


OUTPUTS: dict[str, Callable[[Net, Tensor], object]] = {
    "scalars": lambda net, x: (net.binary(x).mean(), x.max(), net.binary(x).sum()),
    "a map and a scalar": lambda net, x: (net.binary(x), net.binary(x).mean()),
    "an integer": lambda net, x: net.binary(x).mean((2, 3)).argmax(1),
    "rounded to integers": lambda net, x: torch.round(net.binary(x) * 0.3713).to(torch.int32),
    "booleans": lambda net, x: net.fc(net.binary(x).mean((2, 3))) > 0.01,
    "a boolean scalar": lambda net, x: (net.binary(x), (net.binary(x) > 0).any()),
    "an input passed through": lambda net, x: (net.binary(x), x),
    "a constant": lambda net, x: (net.binary(x), net.anchors),
    "a computed constant": lambda net, x: (net.binary(x), net.anchors * 2 + 1),
    "the same twice": lambda net, x: (net.binary(x),) * 2,
    "behind two dropouts": lambda net, x: net.drop(net.drop(net.binary(x))),
    "behind a clip and a dropout": lambda net, x: net.drop(net.binary(x).clamp(0, 6)),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_of_this_kind_is_verified(name: str) -> None:
    model = compiled(Net(OUTPUTS[name]), f"1x{CHANNELS}x6x6")
    found = verify(model, inputs_of(model))
    assert found.problems == []
    assert len(found.layers) == 1
    assert found.layers[0].sums == 3 * CHANNELS * 6 * 6


def test_a_binary_linear_whose_name_a_dropout_has_is_verified() -> None:
    model = compiled(Net(lambda net, x: net.drop(F.linear(sign(x), sign(net.fc.weight)))), f"2x{CHANNELS}")
    found = verify(model, inputs_of(model))
    assert found.problems == []
    assert [layer.sums for layer in found.layers] == [3 * 2 * 5]


ROWS: dict[str, tuple[Callable[[Net, Tensor], object], int, str]] = {
    "padded with +1": (lambda net, x: net.row(F.pad(sign(x), (2, 1), value=1.0)), 3, "1x32x20"),
    "padded with -1": (lambda net, x: net.row(F.pad(sign(x), (2, 1), value=-1.0)), 3, "1x32x20"),
    "padded before the sign, stride 2": (lambda net, x: net.row(sign(F.pad(x, (2, 1), value=0.5)), 2), 3, "1x32x21"),
    "padded with zeros": (lambda net, x: net.row(sign(x), 1, 1), 3, "1x32x20"),
    "stride 2 on an even length": (lambda net, x: net.row(sign(x), 2, 2), 5, "1x32x8"),
    "taps that only meet padding": (lambda net, x: net.row(sign(x), 2, 2), 5, "1x32x2"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_convolution_over_one_axis_is_verified(name: str) -> None:
    function, kernel, shape = ROWS[name]
    model = compiled(Net(function, kernel), shape)
    found = verify(model, inputs_of(model))
    assert found.problems == []
    assert sum(layer.sums for layer in found.layers) > 0
