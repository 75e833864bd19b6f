from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bnncc.ir.graph import OUTPUT_CHANNELS_KEY
from bnncc.passes.carry_pixel_shuffle import CarryPixelShuffle
from bnncc.verification import verify
from tests.networks.vgg_small import BinaryConv2d
from tests.passes.helpers import Array, build, check_pass, node_of, normal, operators, signs
from tests.passes.networks import assert_equals_torch, compile_randomized

CONV = "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = {}, pads = [0, 0, 0, 0], pad_value = 0.0>"
SHUFFLE = """
    p = Reshape (v, parts)
    q = Transpose <perm = [0, 1, 4, 2, 5, 3]> (p)
    u = Reshape (q, whole)
"""
CHANNELS, BLOCK, HEIGHT, WIDTH = 5, 2, 3, 4


def shuffled(behind: str = "y = Identity (u)", outputs: str = "y", shuffle: str = SHUFFLE, group: int = 1):
    """x ─ Sign ─ BinaryConv ─ pixel_shuffle (u) ─ `behind`."""
    filters = CHANNELS * BLOCK**2
    arrays: dict[str, Array] = {
        "parts": np.array([2, CHANNELS, BLOCK, BLOCK, HEIGHT, WIDTH]),
        "whole": np.array([2, CHANNELS, BLOCK * HEIGHT, BLOCK * WIDTH]),
        "other": np.array([2, filters // BLOCK, HEIGHT, WIDTH * BLOCK]),
        "a": np.array([0.5, -2.0, 1.0, 3.0, 0.25], np.float32).reshape(1, CHANNELS, 1, 1),
        "c": normal(1, CHANNELS, 1, 1),
        "map": normal(1, 1, BLOCK * HEIGHT, BLOCK * WIDTH),
        "zero": np.array([0, 0]),
        "end": np.array([5, 7]),
        "spatial": np.array([2, 3]),
    }
    text = f"s = bnncc.Sign (x)\nv = {CONV.format(group)} (s, w, m, b)\n{shuffle}\n{behind}"
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return build(
        text,
        f"float[2, 6, {HEIGHT}, {WIDTH}] x",
        outputs,
        w=signs(filters, 6 // group, 1, 1),
        m=np.abs(normal(filters)),
        b=normal(filters, seed=1),
        **{name: array for name, array in arrays.items() if name in words},
    )


def test_the_filters_take_the_order_of_depth_to_space() -> None:
    after = check_pass(shuffled(), CarryPixelShuffle())
    found = operators(after)
    assert found["DepthToSpace"] == 1
    assert not found["Reshape"] + found["Transpose"]
    order = json.loads(node_of(after, "BinaryConv").metadata_props[OUTPUT_CHANNELS_KEY])
    traced = torch.arange(CHANNELS * BLOCK**2).reshape(CHANNELS, BLOCK, BLOCK)  # traced channel at (c, row, column)
    assert order == traced.permute(1, 2, 0).reshape(-1).tolist()


def test_a_depth_to_space_of_the_other_order_becomes_this_one() -> None:
    after = check_pass(shuffled(shuffle='u = DepthToSpace <blocksize = 2, mode = "CRD"> (v)'), CarryPixelShuffle())
    assert node_of(after, "DepthToSpace").attributes["mode"].as_string() == "DCR"


IN_FRONT = {
    "a float convolution": ("v = Conv (x, f, d)", "y = Relu (u)"),
    "what works on each element": ("g = Conv (x, f)\nh = PRelu (g, e)\ni = Mul (h, e)\nv = Tanh (i)", "y = Relu (u)"),
    "repeated channels": ("g = Conv (x, f)\nh = Gather <axis = 1> (x, repeats)\nv = Add (g, h)", "y = Mul (u, a)"),
    "chosen channels": ("v = Gather <axis = 1> (x, some)", "y = Relu (u)"),
}


@pytest.mark.parametrize("name", IN_FRONT)
def test_whatever_has_constants_a_channel_takes_the_order(name: str) -> None:
    front, behind = IN_FRONT[name]
    filters = CHANNELS * BLOCK**2
    arrays: dict[str, Array] = {
        "f": normal(filters, CHANNELS, 1, 1),
        "d": normal(filters, seed=1),
        "e": np.abs(normal(filters, 1, 1, seed=2)),
        "a": normal(1, CHANNELS, 1, 1),
        "repeats": np.arange(CHANNELS).repeat(BLOCK**2),
        "some": np.random.default_rng(0).integers(0, CHANNELS, filters),
        "parts": np.array([2, CHANNELS, BLOCK, BLOCK, HEIGHT, WIDTH]),
        "whole": np.array([2, CHANNELS, BLOCK * HEIGHT, BLOCK * WIDTH]),
    }
    text = f"{front}\n{SHUFFLE}\n{behind}"
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    used = {name: array for name, array in arrays.items() if name in words}
    after = check_pass(build(text, f"float[2, {CHANNELS}, {HEIGHT}, {WIDTH}] x", "y", **used), CarryPixelShuffle())
    found = operators(after)
    assert found["DepthToSpace"] == 1
    assert not found["Reshape"] + found["Transpose"]
    assert found["Gather"] == (name == "chosen channels")
    assert found["Concat"] == (name == "repeated channels")


AFFINE = [
    "g = Mul (u, a)\ny = Add (g, c)",
    "g = Mul (u, a)\nh = Slice (g, zero, end, spatial)\ny = Add (h, c)",
    "h = Slice (u, zero, end, spatial)\ng = Mul (h, a)\nk = Add (g, c)\ny = Relu (k)",
]


@pytest.mark.parametrize("behind", AFFINE)
def test_what_works_on_each_channel_goes_in_front_of_the_shuffle_and_of_slices_of_its_map(behind: str) -> None:
    after = check_pass(shuffled(behind), CarryPixelShuffle())
    names = [node.op_type for node in after.graph]
    assert names[:5] == ["Sign", "BinaryConv", "Mul", "Add", "DepthToSpace"]
    assert "Mul" not in names[5:]
    assert "Add" not in names[5:]


@pytest.mark.parametrize("behind", ["y = Add (u, map)", "y = Relu (u)", "y = Add (u, u)"])
def test_what_does_not_stays_behind_it(behind: str) -> None:
    after = check_pass(shuffled(behind), CarryPixelShuffle())
    names = [node.op_type for node in after.graph]
    assert names[:3] == ["Sign", "BinaryConv", "DepthToSpace"]


@pytest.mark.parametrize(
    "model",
    [
        shuffled("z = Relu (v)\ny = Relu (u)", "y, z"),
        shuffled(shuffle=SHUFFLE.replace("[0, 1, 4, 2, 5, 3]", "[0, 1, 4, 3, 5, 2]")),
        shuffled(shuffle=SHUFFLE.replace("whole", "other")),
        shuffled(shuffle='u = DepthToSpace <blocksize = 2, mode = "DCR"> (v)'),
        shuffled(group=2),
        build('u = DepthToSpace <blocksize = 2, mode = "CRD"> (x)\ny = Relu (u)', "float[1, 8, 3, 3] x"),
        build(
            'v = Add (x, x)\nu = DepthToSpace <blocksize = 2, mode = "CRD"> (v)\ny = Relu (u)', "float[1, 8, 3, 3] x"
        ),
    ],
    ids=["read twice", "another order", "another shape", "in order", "grouped", "no convolution", "a sum of others"],
)
def test_anything_else_stays(model: object) -> None:
    check_pass(model, CarryPixelShuffle(), modified=False)


class Reshaped(nn.Module):
    """pixel_unshuffle, a binary 1x1 convolution, pixel_shuffle, batch norm, a shortcut; or none, and a sign."""

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.conv = BinaryConv2d(4 * channels, 4 * channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.last = BinaryConv2d(channels, 5, 3, bias=False)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.bn(F.pixel_shuffle(self.conv(F.pixel_unshuffle(x, 2)), 2))
        y = self.last(y + x if self.shortcut else y)
        return y.mean((2, 3))


@pytest.mark.parametrize("shortcut", [False, True])
def test_a_network_is_exact_and_the_batch_norm_is_part_of_the_convolution(shortcut: bool) -> None:
    module = Reshaped(32, shortcut=shortcut)
    compiled, found = compile_randomized(module, (1, 3, 8, 6))
    assert found["DEPTH_TO_SPACE"] == found["SPACE_TO_DEPTH"] == 1
    assert found["MUL"] + found["TRANSPOSE"] == 0
    assert found["ADD"] == int(shortcut)
    # Without a shortcut nothing is a float between the two: thresholds, and bits are shuffled.
    assert found["LceQuantize"] == 1 + int(shortcut)
    assert verify(compiled, [[normal(1, 3, 8, 6)]]).passed
    assert_equals_torch(module, compiled)
