from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import bnncc
from bnncc.compiler import CompiledModel
from bnncc.pass_runner import PassRunner
from bnncc.passes import PIPELINE
from bnncc.passes.binary_maxpool import BinaryMaxPool
from bnncc.passes.legalize import Padding, legalization
from bnncc.passes.mirror_frame import MirrorFrame
from bnncc.runners import LceRunner
from bnncc.targets.tflite.reader import TfliteFile
from tests.networks.randomize import randomize
from tests.passes.helpers import Array, build, check_pass, node_of, normal, operators, signs
from tests.targets.tflite.test_lce import assert_equal_in_lce

POOL = "MaxPool <kernel_shape = [2, 2], strides = [2, 2]>"
BINARY_CONV = "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [{}], pad_value = 0.0>"


def test_signs_are_pooled_as_bits() -> None:
    model = build(f"s = bnncc.Sign (x)\ny = {POOL} (s)", "float[2, 5, 6, 5] x")
    after = check_pass(model, BinaryMaxPool())
    assert operators(after) == {"bnncc.Sign": 1, "bnncc.BinaryMaxPool": 1}
    assert node_of(after, "BinaryMaxPool").outputs[0].name == "y"


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 200),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    ceil_mode=st.integers(0, 1),
)
def test_the_sign_of_a_maximum_is_the_maximum_of_signs_for_every_window(
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    ceil_mode: int,
) -> None:
    assume(all(2 * max(pads[axis], pads[axis + 2]) <= kernel[axis] for axis in (0, 1)))
    assume(all(size[axis] + pads[axis] + pads[axis + 2] >= kernel[axis] for axis in (0, 1)))
    attributes = (
        f"kernel_shape = {list(kernel)}, strides = {list(stride)}, pads = {list(pads)}, ceil_mode = {ceil_mode}"
    )
    model = build(
        f"p = MaxPool <{attributes}> (x)\ny = bnncc.Sign (p)",
        f"float[1, {channels}, {size[0]}, {size[1]}] x",
    )
    after = check_pass(model, BinaryMaxPool())
    assert operators(after) == {"bnncc.Sign": 1, "bnncc.BinaryMaxPool": 1}
    found = assert_equal_in_lce(after)
    assert found["LceBMaxPool2d"] == 1


@pytest.mark.parametrize("pads", ["0, 0, 0, 0", "1, 1, 1, 1", "1, 0, 0, 1"])
@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_the_mirrored_frame_rotates_pooled_bits(pads: str, size: tuple[int, int]) -> None:
    model = build(
        f"s = bnncc.Sign (x)\np = bnncc.BinaryMaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [{pads}]> (s)\n"
        f"y = {BINARY_CONV.format('0, 0, 0, 0')} (p, w, m, b)",
        f"float[1, 37, {size[0]}, {size[1]}] x",
        w=signs(4, 37, 2, 2),
        m=np.ones(4, np.float32),
        b=np.zeros(4, np.float32),
    )
    expected = model.clone()
    check_pass(model, MirrorFrame(), without_source=lambda node: node.op_type == "Slice")
    assert operators(model) >= operators(expected)
    assert_equal_in_lce(model)


BETWEEN = {
    "g = Add (p, d)": {"d": normal(6, 1, 1)},
    "h = Mul (p, a)\ng = Add (h, d)": {"a": np.abs(normal(6, 1, 1)), "d": normal(6, 1, 1, seed=2)},
    "g = BatchNormalization (p, a, d1, d2, v)": {
        "a": np.abs(normal(6)),
        "d1": normal(6, seed=1),
        "d2": normal(6, seed=2),
        "v": np.abs(normal(6, seed=3)),
    },
}


@pytest.mark.parametrize("conv", ["Conv", "BinaryConv"])
@pytest.mark.parametrize("between", BETWEEN)
def test_a_rising_affine_goes_before_the_pool_into_the_convolution(between: str, conv: str) -> None:
    first = (
        "c = Conv <pads = [1, 1, 1, 1]> (x, f)"
        if conv == "Conv"
        else f"s = bnncc.Sign (x)\nc = {BINARY_CONV.format('1, 1, 1, 1')} (s, w, m, b)"
    )
    constants: dict[str, Array] = (
        {"f": normal(6, 5, 3, 3)} if conv == "Conv" else {"w": signs(6, 5, 3, 3), "m": normal(6), "b": normal(6)}
    )
    model = build(
        f"{first}\np = {POOL} (c)\n{between}\ny = bnncc.Sign (g)",
        "float[2, 5, 6, 5] x",
        **constants,
        **BETWEEN[between],
    )
    after = check_pass(model, BinaryMaxPool())
    assert operators(after)["bnncc.BinaryMaxPool"] == 1
    assert operators(after)["MaxPool"] == 0


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (f"p = {POOL} (x)\ng = Add (p, d)\ny = bnncc.Sign (g)", "y"),  # nothing absorbs the Add on all positions
        (f"c = Conv (x, f)\np = {POOL} (c)\ng = Mul (p, n)\ny = bnncc.Sign (g)", "y"),  # falls
        (f"c = Conv (x, f)\np = {POOL} (c)\ng = PRelu (p, n)\ny = bnncc.Sign (g)", "y"),
        (f"c = Conv (x, f)\np = {POOL} (c)\ng = Add (p, d)\ny = bnncc.Sign (g)", "y, c"),
        (f"p = {POOL} (x)\ny = bnncc.Sign (p)", "y, p"),
        ("p = MaxPool <kernel_shape = [2, 2], dilations = [2, 2]> (x)\ny = bnncc.Sign (p)", "y"),
        ("s = bnncc.Sign (x)\ny = AveragePool <kernel_shape = [2, 2]> (s)", "y"),
    ],
)
def test_pools_that_cannot_or_should_not_move_stay(body: str, outputs: str) -> None:
    constants = {
        "f": normal(5, 5, 1, 1),
        "d": normal(5, 1, 1),
        "n": np.array([1, -1, 2, 1, 1], np.float32).reshape(5, 1, 1),
    }
    used = {name: array for name, array in constants.items() if f", {name})" in body}
    check_pass(build(body, "float[2, 5, 6, 5] x", outputs, **used), BinaryMaxPool(), modified=False)


# Networks


class BinaryConv2d(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        y: torch.Tensor = self._conv_forward(torch.sign(x), scale * torch.sign(self.weight), None)
        return y


class VggSmall(nn.Module):
    """conv → [max-pool] → batch norm → hardtanh, binary from the second convolution on; a float Linear at the end."""

    def __init__(
        self,
        widths: tuple[int, ...],
        padding: int,
        pool: tuple[int, int, int] = (2, 2, 0),
        clamp: type[nn.Module] = nn.Hardtanh,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), nn.BatchNorm2d(widths[0]), clamp()]
        for index, (before, after) in enumerate(itertools.pairwise(widths)):
            layers.append(BinaryConv2d(before, after, 3, padding=padding, bias=False))
            if index % 2 == 0:
                layers.append(nn.MaxPool2d(*pool))
            layers += [nn.BatchNorm2d(after), clamp()]
        self.features = nn.Sequential(*layers)
        self.head = nn.LazyLinear(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(torch.sign(self.features(x)).flatten(1))
        return y


def compile_vgg(module: nn.Module, size: int) -> tuple[CompiledModel, Counter[str]]:
    module.eval()(torch.zeros(1, 3, size, size))
    compiled = bnncc.compile(randomize(module), input_shapes=[(1, 3, size, size)])
    return compiled, Counter(operator.name for operator in TfliteFile(compiled.content).operators)


def assert_equals_torch(module: nn.Module, compiled: CompiledModel, size: int, inputs: int = 4) -> None:
    """Equal logits in all inputs but those in which the float stem's rounding flips a sign: of 4, at most 1."""
    wrong = 0
    for seed in range(inputs):
        x = normal(1, 3, size, size, seed=seed)
        with torch.no_grad():
            expected = module(torch.from_numpy(x)).numpy()
        for fastest in (False, True):
            (found,) = LceRunner(compiled.content, fastest=fastest).run([x.transpose(0, 2, 3, 1)])
            wrong += int(np.abs(found - expected).max() > 1e-4 * np.abs(expected).max())
    assert wrong <= 2


@pytest.mark.parametrize("pool", [(2, 2, 0), (3, 2, 1), (3, 2, 0)])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("clamp", [nn.Hardtanh, nn.Identity])
def test_vgg_small_pools_bits_and_thresholds_where_lce_allows(
    padding: int, pool: tuple[int, int, int], clamp: type[nn.Module]
) -> None:
    size = 32
    module = VggSmall((40, 64, 33, 96, 50), padding, pool, clamp)
    compiled, found = compile_vgg(module, size)
    assert found["LceBMaxPool2d"] == 2
    assert found["LceBconv2d"] == 4
    assert found["MAX_POOL_2D"] == found["ADD"] == found["MUL"] == found["PAD"] == 0
    thresholded = operators(compiled.graph)["bnncc.BinaryConvSign"]
    assert thresholded == (4 if padding == 0 else 0)
    assert found["LceQuantize"] == (1 if padding == 0 else 5)
    assert found["LceDequantize"] == 1
    assert_equals_torch(module, compiled, size)


def test_every_pass_keeps_vgg_smalls_outputs_and_a_second_run_changes_nothing() -> None:
    module = VggSmall((8, 12, 9), 0)
    module.eval()(torch.zeros(1, 3, 16, 16))
    options = bnncc.Options(verify_passes=True)
    compiled = bnncc.compile(randomize(module), input_shapes=[(1, 3, 16, 16)], options=options)
    once = ir.serde.serialize_model(compiled.graph).SerializeToString(deterministic=True)
    PassRunner().run(compiled.graph, PIPELINE)
    PassRunner().run(compiled.graph, legalization(compiled.graph, Padding.AUTO))
    assert ir.serde.serialize_model(compiled.graph).SerializeToString(deterministic=True) == once
