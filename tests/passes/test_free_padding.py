"""Negative scales in front of signs that are padded with ±1: in the weights, and the border a constant."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.passes.normalize_sign_input import NormalizeSignInput
from tests.passes.helpers import Array, build, check_pass, node_of, normal, operators, signs
from tests.passes.proof import operators_in_file, proven

X = "float[2, 6, 5, 7] x"
MIXED = np.array([0.5, -2.0, 0.1, -0.3, 1.5, -1.0], np.float32).reshape(1, 6, 1, 1)
HEAD = "a = Mul (x, scale)\nb = Add (a, shift)\ns = bnncc.Sign (b)\n"


def conv(source: str, *, name: str = "y", pad_value: float = 0.0, pads: str = "[1, 1, 1, 1]", strides: int = 1) -> str:
    attributes = f"strides = [{strides}, {strides}], dilations = [1, 1], group = 1, pads = {pads}"
    return f"{name} = bnncc.BinaryConv <{attributes}, pad_value = {pad_value}> ({source}, w, m, b0)\n"


def layer(body: str, outputs: str = "y", filters: int = 4) -> ir.Model:
    constants: dict[str, Array | float] = {
        **{"minus": -1.0, "amounts": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "scale": MIXED},
        **{"shift": normal(1, 6, 1, 1, seed=5), "w": signs(filters, 6, 3, 3), "m": normal(filters, seed=1)},
        **{"b0": normal(filters, seed=2)},
    }
    used = {name: value for name, value in constants.items() if f" {name}," in body or f" {name})" in body}
    return build(body, X, outputs, **used)


@pytest.mark.parametrize(
    "body",
    [
        HEAD + conv("s", pad_value=1.0),
        HEAD + "p = Pad (s, amounts, minus)\n" + conv("p", pads="[0, 0, 0, 0]"),
        HEAD + "p = Pad (s, amounts, minus)\n" + conv("p", pads="[0, 0, 0, 0]", strides=2),
    ],
    ids=["with +1", "with -1", "with -1, stride 2"],
)
def test_the_border_is_a_constant_and_the_scale_in_the_weights(body: str) -> None:
    model = check_pass(layer(body), NormalizeSignInput())
    assert operators(model) == {"Add": 2, "bnncc.Sign": 1, "bnncc.BinaryConv": 1}
    assert node_of(model, "BinaryConv").attributes["pad_value"].as_float() == 0.0


NEGATIVE = -np.abs(MIXED)


@pytest.mark.parametrize("scale", [NEGATIVE, np.full((1, 6, 1, 1), -1.0, np.float32)], ids=["any", "-1"])
def test_where_all_scales_are_negative_one_sub_needs_no_border(scale: Array) -> None:
    text = HEAD.replace("scale", "negative") + conv("s", pad_value=1.0)
    constants = {"shift": normal(1, 6, 1, 1, seed=5), "w": signs(4, 6, 3, 3), "m": normal(4), "b0": normal(4, seed=2)}
    model = build(text, X, negative=scale, **constants)
    if np.all(scale == -1):
        check_pass(model, NormalizeSignInput(), modified=False)  # `fold-affine` makes it one Sub
        return
    found = operators(check_pass(model, NormalizeSignInput()))
    assert found == {"Sub": 1, "bnncc.Sign": 1, "bnncc.BinaryConv": 1}


class ZeroOrOne(nn.Module):
    """Residual blocks of {0, 1}, padded with 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.weight = nn.Conv2d(3, 32, 1), nn.Parameter(torch.randn(3, 32, 32, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for weight in torch.where(self.weight >= 0, 1.0, -1.0):
            x = F.conv2d(torch.round(x.clamp(0, 1)), weight, padding=1) / 16 + x
        return x


def test_zero_padding_of_zero_or_one_costs_no_map_of_constants() -> None:
    compiled = proven(ZeroOrOne(), 1, 3, 28, 28)
    assert [layer.reason for layer in compiled.layers] == [None] * 3
    found = operators_in_file(compiled)
    assert (found["SUB"], found["ADD"], found["LceBconv2d"]) == (3, 3, 3)
    assert len(compiled.content) < 12_000


READ = "z = Neg (p)"


@pytest.mark.parametrize(
    ("body", "outputs", "filters"),
    [
        (HEAD + conv("s", pad_value=1.0), "y", 7),
        (HEAD + conv("s", name="t", pad_value=1.0) + "r = Relu (t)\ny = bnncc.Sign (r)", "y", 4),
        (HEAD + "p = Pad (s, amounts, minus)\n" + conv("p", pads="[0, 0, 0, 0]") + READ, "y, z", 4),
        (HEAD + conv("s", pad_value=1.0, pads="[0, 0, 1, 1]", strides=1), "y", 4),
    ],
    ids=["more filters than channels", "thresholds behind", "the padded signs read as floats", "no SAME"],
)
def test_elsewhere_the_scale_stays(body: str, outputs: str, filters: int) -> None:
    check_pass(layer(body, outputs, filters), NormalizeSignInput(), modified=False)


class DenseBlock(nn.Module):
    """Batch norm with negative γ, sign, padding with `fill`, convolution, concatenation, so many times."""

    def __init__(self, fill: float, layers: int = 2, channels: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fill, self.stem = fill, nn.Conv2d(3, channels, 3, padding=1)
        self.norms, self.weights = nn.ModuleList(), nn.ParameterList()
        for index in range(layers):
            width = channels * (1 + index)
            norm = nn.BatchNorm2d(width)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            self.norms.append(norm)
            self.weights.append(nn.Parameter(torch.randn(channels, width, 3, 3)))
        self.head = nn.Linear(channels * (1 + layers), 7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for norm, weight in zip(self.norms, self.weights, strict=True):
            y = norm(x)
            s = F.pad(torch.where(y >= 0, 1.0, -1.0), (1, 1, 1, 1), value=self.fill)
            x = torch.cat([x, F.conv2d(s, torch.sign(weight) * 0.1)], 1)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("fill", [-1.0, 1.0, 0.0])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_layer_of_a_dense_block_is_an_add_a_sign_a_convolution_and_a_concatenation(fill: float, layers: int) -> None:
    compiled = proven(DenseBlock(fill, layers), 1, 3, 9, 7)
    each = dict.fromkeys(("ADD", "LceQuantize", "LceBconv2d", "CONCATENATION"), layers)
    assert operators_in_file(compiled) == {"CONV_2D": 1, **each, "MEAN": 1, "FULLY_CONNECTED": 1}


def test_borders_stay_small_beside_the_file() -> None:
    """At 120x120 a border of 32 channels would be 1.8 MB, and the convolution's filters are a few kB."""
    compiled = bnncc.compile(DenseBlock(-1.0, 1).eval(), input_shapes=[(1, 3, 120, 120)])
    assert len(compiled.content) < 2**16
