"""A ReLU between a binary convolution and its batch norm goes into the convolution: as a pass and end to end."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.ir import ops
from bnncc.ir.graph import OUTPUT_CHANNELS_KEY
from bnncc.passes.fold_affine import FoldAffine
from tests.passes.helpers import Array, array_of, build, check_pass, draw, node_of, normal, operators, run_model, signs
from tests.passes.proof import operators_in_file, proven

RELU, ONE, SIX = (0.0, 2.0**24), (-1.0, 1.0), (0.0, 6.0)


def layer(
    clip: str,
    *,
    channels: int = 5,
    kernel: int = 3,
    multiplier: float | None = None,
    bias: float = 0.0,
    pads: int = 0,
    pad_value: float = 1.0,
    group: int = 1,
    behind: str = "y = Mul (r, scale)",
) -> ir.Model:
    """x ─ Sign ─ BinaryConv ─ `clip`, c to r ─ `behind`, r to y."""
    filters = 6
    m = normal(filters, seed=1) if multiplier is None else np.full(filters, multiplier, np.float32)
    constants: dict[str, Array | float] = {
        name: value for name, value in {"low": -1.0, "high": 1.0, "zero": 0.0, "six": 6.0}.items() if name in clip
    }
    if "scale" in behind:
        constants["scale"] = normal(filters, 1, 1, seed=3)
    return build(
        f"""
        s = bnncc.Sign (x)
        c = bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = {group}, pads = {[pads] * 4},
                              pad_value = {pad_value}> (s, w, m, b)
        {clip}
        {behind}
        """,
        f"float[2, {channels}, 6, 5] x",
        w=signs(filters, channels // group, kernel, kernel, seed=4),
        m=m,
        b=np.broadcast_to(np.float32(bias), (filters,)).copy(),
        **constants,
    )


def bounds(model: ir.Model) -> tuple[float, float]:
    return ops.sum_bounds(node_of(model, "BinaryConv"))


@pytest.mark.parametrize("pads", [0, 1])
def test_a_relu_and_what_is_behind_it_vanish_for_multipliers_of_either_sign(pads: int) -> None:
    model = check_pass(layer("r = Relu (c)", pads=pads), FoldAffine())
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1}
    assert bounds(model) == RELU


@pytest.mark.parametrize(
    ("clip", "channels", "multiplier", "bias", "expected"),
    [
        ("r = Clip (c, low, high)", 4, 1.0, 0.0, ONE),
        ("r = Clip (c, low, high)", 4, -1.0, 0.0, ONE),
        ("r = Clip (c, low, high)", 4, 0.5, 0.0, ONE),  # 36 products: the sums beside 0 are ±2
        ("r = Clip (c, low, high)", 5, 2.5, 0.25, ONE),  # 45 products: no sum is 0, and each is beyond ±1
        ("r = Clip (c, zero, six)", 4, 1.0, 0.0, SIX),
        ("r = Clip (c, zero, six)", 4, 0.125, 0.0, RELU),  # 36 products: 6 is out of reach
        ("r = Clip (c, zero)", 4, 0.5, 0.0, RELU),
        ("r = Relu (c)", 4, 0.0, -1.0, RELU),
    ],
)
def test_a_clip_goes_where_every_sum_is_clipped_alike(
    clip: str, channels: int, multiplier: float, bias: float, expected: tuple[float, float]
) -> None:
    model = check_pass(layer(clip, channels=channels, multiplier=multiplier, bias=bias), FoldAffine())
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1}
    assert bounds(model) == expected


@pytest.mark.parametrize(
    "model",
    [
        layer("r = Clip (c, low, high)", channels=4, multiplier=0.25, behind="y = Exp (r)"),
        layer("r = Clip (c, low, high)", channels=4, multiplier=2.5, bias=0.5, behind="y = Exp (r)"),
        layer("r = Clip (c, zero, six)", channels=4, multiplier=2.0, behind="y = Exp (r)"),
        layer("r = Relu (c)", bias=0.5, behind="y = Exp (r)"),
        layer("r = Relu (c)", pads=1, pad_value=0.0, behind="y = Exp (r)"),
        layer("r = Relu (c)", channels=6, group=2, behind="y = Exp (r)"),
        layer("r = Relu (c)", behind="y = Add (r, c)"),
    ],
    ids=["sums between the bounds", "sums of 0, shifted", "scaled six", "bias", "zero padding", "groups", "read twice"],
)
def test_what_lces_bounds_cannot_say_stays(model: ir.Model) -> None:
    check_pass(model, FoldAffine(), modified=False)


@settings(max_examples=40)
@given(
    channels=st.integers(1, 7),
    kernel=st.sampled_from([1, 2, 3]),
    numerator=st.integers(-16, 16),
    bias=st.integers(-8, 8),
    clip=st.sampled_from(["r = Relu (c)", "r = Clip (c, low, high)", "r = Clip (c, zero, six)"]),
)
def test_whatever_is_fused_computes_the_same_to_the_bit(
    channels: int, kernel: int, numerator: int, bias: int, clip: str
) -> None:
    model = layer(clip, channels=channels, kernel=kernel, multiplier=numerator / 8, bias=bias / 4, behind="y = Neg (r)")
    before = model.clone()
    FoldAffine()(model)
    feeds = draw(before)
    np.testing.assert_array_equal(run_model(model, feeds)["y"], run_model(before, feeds)["y"])


def test_negated_filters_are_recorded() -> None:
    model = check_pass(layer("r = Relu (c)"), FoldAffine())
    conv = node_of(model, "BinaryConv")
    negative = normal(6, seed=1) < 0
    recorded = np.array(json.loads(conv.metadata_props[OUTPUT_CHANNELS_KEY]))
    np.testing.assert_array_equal(recorded < 0, negative)
    np.testing.assert_array_equal(
        array_of(conv.inputs[1]), np.where(negative[:, None, None, None], -1, 1) * signs(6, 5, 3, 3, seed=4)
    )


class Block(nn.Module):
    """Sign, +1 padding, a binary convolution, a clip, a batch norm with negative γ, a shortcut: QuickNet's order."""

    def __init__(self, clip: nn.Module, channels: int = 40, *, scaled: bool = True, pads: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.clip, self.scaled, self.pads = clip, scaled, pads
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.norm = nn.BatchNorm2d(channels)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        nn.init.uniform_(self.norm.running_var, 50, 400)
        nn.init.normal_(self.norm.running_mean, 5, 3)
        self.head = nn.Linear(channels, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        s = torch.where(x >= 0, 1.0, -1.0)
        s = F.pad(s, (1, 1, 1, 1), value=1.0) if self.pads else s
        scale = self.weight.mean((1, 2, 3), keepdim=True) if self.scaled else 1.0  # of either sign
        y = self.norm(self.clip(F.conv2d(s, torch.sign(self.weight) * scale)))
        y = y + x if self.pads else y
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize(
    "module",
    [
        Block(nn.ReLU()),
        Block(nn.ReLU(), pads=False),
        Block(nn.ReLU6(), scaled=False),
        Block(nn.Hardtanh(), scaled=False),
        Block(nn.Hardtanh(0, 6), 33, scaled=False, pads=False),
    ],
    ids=["relu", "relu, unpadded", "relu6", "hardtanh", "hardtanh as relu6, unpadded"],
)
def test_in_the_file_the_activation_is_the_convolutions_own(module: Block) -> None:
    compiled = proven(module, 1, 3, 9, 7)
    wanted = {"CONV_2D": 1, "LceQuantize": 1, "LceBconv2d": 1, "MEAN": 1, "FULLY_CONNECTED": 1}
    assert operators_in_file(compiled) == {**wanted, **({"ADD": 1} if module.pads else {})}
