from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnncc
from bnncc.ir.geometry import Window
from bnncc.ir.graph import NEGATED_KEY
from bnncc.ir.modes import Padding
from bnncc.ir.pass_runner import PassRunner
from bnncc.passes import PIPELINE
from bnncc.passes.binary_max_pool import BinaryMaxPool
from bnncc.passes.legalize import legalization
from bnncc.passes.mirror_frame import MirrorFrame
from bnncc.verification.passes import first_difference
from tests.networks.vgg_small import VggSmall
from tests.passes.convolutions import Geometry
from tests.passes.helpers import Array, build, check_pass, draw, node_of, normal, operators, run_all, signs
from tests.passes.networks import assert_equals_torch, compile_randomized
from tests.targets.tflite.test_lce import assert_equal_in_lce
from tests.windows import windows

POOL = "MaxPool <kernel_shape = [2, 2], strides = [2, 2]>"
BINARY_CONV = "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [{}], pad_value = 0.0>"


def test_signs_are_pooled_as_bits() -> None:
    model = build(f"s = bnncc.Sign (x)\ny = {POOL} (s)", "float[2, 5, 6, 5] x")
    after = check_pass(model, BinaryMaxPool())
    assert operators(after) == {"bnncc.Sign": 1, "bnncc.BinaryMaxPool": 1}
    assert node_of(after, "BinaryMaxPool").outputs[0].name == "y"


@settings(max_examples=60)
@given(
    channels=st.integers(1, 200),
    # PyTorch's rule: padding is at most half the kernel.
    axes=st.tuples(*[windows(kernels=(1, 4), dilations=(1, 1), pads=(0, 2), widest_pad=lambda k: k // 2)] * 2),
    ceil_mode=st.integers(0, 1),
)
def test_the_sign_of_a_maximum_is_the_maximum_of_signs_for_every_window(
    channels: int, axes: tuple[Window, Window], ceil_mode: int
) -> None:
    geometry = Geometry.of(*axes)
    window = f"kernel_shape = {list(geometry.kernel)}, strides = {list(geometry.strides)}, pads = {list(geometry.pads)}"
    model = build(
        f"p = MaxPool <{window}, ceil_mode = {ceil_mode}> (x)\ny = bnncc.Sign (p)",
        f"float[1, {channels}, {geometry.size[0]}, {geometry.size[1]}] x",
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


@pytest.mark.parametrize("chain", ["", "k = Clip (g, low, high)\n", "k = Tanh (g)\n"])
@pytest.mark.parametrize("pads", ["0, 0, 0, 0", "1, 1, 1, 1"])
def test_channels_with_a_falling_affine_pool_the_complement_and_the_consumers_absorb_it(chain: str, pads: str) -> None:
    scale = np.array([1, -1, 0, 2, -3, 0.5], np.float32)
    model = build(
        f"""
        s = bnncc.Sign (x)
        c = {BINARY_CONV.format(pads)} (s, w, m, b)
        p = {POOL} (c)
        g = BatchNormalization (p, a, d, mean, variance)
        {chain}t = bnncc.Sign ({"k" if chain else "g"})
        y = {BINARY_CONV.format("1, 1, 1, 1")} (t, v, m, b)
        z = {BINARY_CONV.format("0, 0, 0, 0")} (t, v, m, b)
        """,
        "float[2, 5, 10, 9] x",
        "y, z",
        w=signs(6, 5, 3, 3, seed=1),
        v=signs(6, 6, 3, 3, seed=2),
        m=normal(6, seed=3),
        b=normal(6, seed=4),
        a=scale,
        d=normal(6, seed=5),
        mean=normal(6, seed=6),
        variance=np.abs(normal(6, seed=7)),
        **({"low": np.float32(-1), "high": np.float32(1)} if "Clip" in chain else {}),
    )
    before = model.clone()
    assert BinaryMaxPool()(model).modified
    assert operators(model)["MaxPool"] == operators(model)["Clip"] == operators(model)["Tanh"] == 0
    pooled = node_of(model, "BinaryMaxPool").outputs[0]
    assert pooled.name == "t"
    for value in (pooled, node_of(model, "BinaryMaxPool").inputs[0]):
        assert value is not None
        assert json.loads(value.metadata_props[NEGATED_KEY]) == [1, 4]
    for seed in range(3):
        feeds = draw(before, seed)
        old, new = run_all(before, feeds), run_all(model, feeds)
        np.testing.assert_array_equal(new["t"] * np.where(scale < 0, -1, 1)[:, None, None], old["t"])
        np.testing.assert_array_equal(new["y"], old["y"])
        np.testing.assert_array_equal(new["z"], old["z"])
    assert not BinaryMaxPool()(model).modified
    PassRunner().run(model, [step for step in PIPELINE if step.name in ("fold-affine", "threshold")])
    assert operators(model)["bnncc.BinaryConvSign"] == (1 if pads == "0, 0, 0, 0" else 0)
    assert operators(model)["Mul"] == 0


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


@pytest.mark.parametrize("pool", [(2, 2, 0), (3, 2, 1), (3, 2, 0)])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("frame", [Padding.AUTO, Padding.MIRRORED, Padding.ONE_PADDED])
def test_vgg_small_pools_bits_and_thresholds_where_lce_allows(
    padding: int, pool: tuple[int, int, int], frame: Padding
) -> None:
    module = VggSmall((40, 64, 33, 96, 50), padding, pool)
    compiled, found = compile_randomized(module, (1, 3, 32, 32), bnncc.Options(padding=frame))
    assert found["LceBMaxPool2d"] == 2
    assert found["LceBconv2d"] == 4
    assert found["MAX_POOL_2D"] == found["ADD"] == found["MUL"] == found["PAD"] == 0
    assert operators(compiled.graph)["bnncc.BinaryConvSign"] == (4 if padding == 0 else 0)
    assert found["LceQuantize"] == (1 if padding == 0 else 5)
    assert found["LceDequantize"] == 1
    assert_equals_torch(module, compiled)


def test_every_pass_keeps_vgg_smalls_outputs_and_a_second_run_changes_nothing() -> None:
    compiled, _ = compile_randomized(
        VggSmall((8, 12, 9), 0), (1, 3, 16, 16), bnncc.Options(compare_passes=first_difference)
    )
    once = ir.serde.serialize_model(compiled.graph).SerializeToString(deterministic=True)
    PassRunner().run(compiled.graph, PIPELINE)
    PassRunner().run(compiled.graph, legalization(compiled.graph, Padding.AUTO))
    assert ir.serde.serialize_model(compiled.graph).SerializeToString(deterministic=True) == once
