"""LCE's operators against ONNX Runtime, bit by bit: what a layer yields is read by a convolution and unpacked."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.inference.graph_runner import OrtRunner
from bnncc.inference.runners import LceRunner
from bnncc.ir import bit_moves
from bnncc.ir.evaluate import Array
from bnncc.ir.geometry import Window
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.lowerings.bit_moves import LOWERINGS
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import END
from tests.passes.convolutions import Geometry
from tests.passes.helpers import build, draw, signs
from tests.targets.tflite.compare import from_file, to_file
from tests.windows import windows

CHANNELS = st.integers(1, 200)


def assert_equal_in_lce(model: ir.Model, seed: int = 0) -> Counter[str]:
    """The file's outputs are ONNX Runtime's, every element, with both of LCE's kernels; returns its operators."""
    arrays = list(draw(model, seed).values())
    expected = OrtRunner(model).run(arrays)
    content = emit(model)
    for fastest in (False, True):
        outputs = LceRunner(content, fastest=fastest).run([to_file(array) for array in arrays])
        for wanted, found in zip(expected, outputs, strict=True):
            np.testing.assert_array_equal(from_file(found), wanted)
    # Behind a last LceBconv2d stands an operator of one element that computes nothing (writer._end_safely).
    return Counter(o.name for o in TfliteFile(content).operators if o.outputs[0].name != END)


def named_in(text: str) -> dict[str, Array]:
    """Those of CONSTANTS that occur in `text`."""
    return {name: array for name, array in CONSTANTS.items() if re.search(rf"\b{name}\b", text)}


def thresholds(filters: int, products: int, seed: int = 0) -> Array:
    """Sums that occur, around 0; every fifth channel constant."""
    spread = np.random.default_rng(seed).integers(0, max(int(products**0.5), 1) + 1, filters)
    values = (products % 2 + 2 * (spread - spread.max() // 2)).astype(np.float32)
    values = np.clip(values, -products, products)
    values[::5], values[3::10] = np.inf, -np.inf
    return values


@settings(max_examples=60)
@given(
    channels=CHANNELS,
    filters=CHANNELS,
    axes=st.tuples(*[windows(sizes=(1, 7), kernels=(1, 4), dilations=(1, 2), pads=(0, 2))] * 2),
    seed=st.integers(0, 9),
)
def test_thresholded_convolutions_yield_the_signs_of_their_sums_and_clear_unused_bits(
    channels: int, filters: int, axes: tuple[Window, Window], seed: int
) -> None:
    # The second convolution counts a bit that is set where no channel is; the third output is dequantised.
    geometry = Geometry.of(*axes)
    model = build(
        f"""
        s = bnncc.Sign (x)
        t = bnncc.BinaryConvSign <{geometry.attributes}, group = 1, pad_value = 1.0> (s, w, a)
        y = bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [0, 0, 0, 0],
            pad_value = 0.0> (t, v, m, b)
        z = Identity (t)
        """,
        f"float[2, {channels}, {geometry.size[0]}, {geometry.size[1]}] x",
        "y, z",
        w=signs(filters, channels, *geometry.kernel, seed=seed),
        a=thresholds(filters, channels * math.prod(geometry.kernel), seed),
        v=signs(3, filters, 1, 1, seed=seed),
        m=np.ones(3, np.float32),
        b=np.zeros(3, np.float32),
    )
    operators = assert_equal_in_lce(model, seed)
    assert operators["LceQuantize"] == 1
    assert operators["LceDequantize"] == 1


def smaller_than_the_kernel(kernel: int) -> int:
    """The padding with which every window holds data: one without has no maximum."""
    return kernel - 1


@settings(max_examples=60)
@given(
    channels=CHANNELS,
    axes=st.tuples(*[windows(kernels=(1, 5), dilations=(1, 1), pads=(0, 4), widest_pad=smaller_than_the_kernel)] * 2),
    seed=st.integers(0, 9),
)
def test_pooled_bits_are_the_maxima_and_padding_never_wins(
    channels: int, axes: tuple[Window, Window], seed: int
) -> None:
    geometry = Geometry.of(*axes)
    window = f"kernel_shape = {list(geometry.kernel)}, strides = {list(geometry.strides)}, pads = {list(geometry.pads)}"
    model = build(
        f"""
        s = bnncc.Sign (x)
        t = bnncc.BinaryMaxPool <{window}> (s)
        y = bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [0, 0, 0, 0],
            pad_value = 0.0> (t, v, m, b)
        z = Identity (t)
        """,
        f"float[1, {channels}, {geometry.size[0]}, {geometry.size[1]}] x",
        "y, z",
        v=signs(3, channels, 1, 1, seed=seed),
        m=np.ones(3, np.float32),
        b=np.zeros(3, np.float32),
    )
    operators = assert_equal_in_lce(model, seed)
    assert operators["LceBMaxPool2d"] == 1


def conv_after(move: str, channels: int, filters: int = 3) -> tuple[str, dict[str, Array]]:
    """x ─ Sign ─ `move` (s to t) ─ 1x1 BinaryConv ─ y on `channels` channels."""
    body = f"""
        s = bnncc.Sign (x)
        {move}
        y = bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [0, 0, 0, 0],
            pad_value = 0.0> (t, v, m, b)
        """
    return body, {
        "v": signs(filters, channels, 1, 1),
        "m": np.ones(filters, np.float32),
        "b": np.zeros(filters, np.float32),
    }


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


MOVES = [
    ("t = Slice (s, i1, i4, i2)", 37, 37, {"STRIDED_SLICE": 1}),
    ("t = Slice (s, i0, i9, i2, i3)", 37, 37, {"STRIDED_SLICE": 1}),
    ("t = Slice (s, last, lowest, both, back)", 37, 37, {"REVERSE_V2": 2}),
    ("t = Slice (s, i32, i96, i1)", 100, 64, {"STRIDED_SLICE": 1}),
    ("t = Slice (s, i32, i100, i1)", 100, 68, {"STRIDED_SLICE": 1}),
    ("t = Concat <axis = 2> (s, s)", 37, 37, {"CONCATENATION": 1}),
    ("t = Concat <axis = 1> (s, s)", 64, 128, {"CONCATENATION": 1}),
    ("t = Concat <axis = 1> (s, plus)", 64, 69, {"CONCATENATION": 1}),
    ("t, r = Split <axis = 3, num_outputs = 2> (s)", 37, 37, {"SPLIT": 1}),
    ("t, r = Split <axis = 1> (s, parts)", 100, 32, {"SPLIT_V": 1}),
    ("t = Pad (s, frame, one)", 37, 37, {"PAD": 1}),
    ("t = Pad (s, frame, minus)", 64, 64, {"PADV2": 1}),
    ('t = Pad <mode = "reflect"> (s, frame)', 37, 37, {"MIRROR_PAD": 1}),
    ('t = Pad <mode = "wrap"> (s, frame)', 37, 37, {"GATHER": 2}),
    ('t = Pad <mode = "edge"> (s, frame)', 37, 37, {"GATHER": 2}),
    ("t = Transpose <perm = [0, 1, 3, 2]> (s)", 37, 37, {"TRANSPOSE": 1}),
    ("t = Reshape (s, flat_map)", 37, 37, {"RESHAPE": 1}),
    ("t = Tile (s, twice)", 64, 128, {"TILE": 1}),
    ("t = Tile (s, wide)", 37, 37, {"TILE": 1}),
    ("t = Gather <axis = 2> (s, rows)", 37, 37, {"GATHER": 1}),
    ("t = Gather <axis = 1> (s, blocks)", 96, 128, {"GATHER": 1}),
    ("t = SpaceToDepth <blocksize = 2> (s)", 64, 256, {"SPACE_TO_DEPTH": 1}),
    ("t = DepthToSpace <blocksize = 2> (s)", 128, 32, {"DEPTH_TO_SPACE": 1}),
]
CONSTANTS = {
    **{f"i{number}": ints(number) for number in (0, 1, 2, 3, 4, 9, 32, 96, 100)},
    "i2": ints(2),
    "both": ints(2, 3),
    "last": ints(-1, -1),
    "lowest": ints(-100, -100),
    "back": ints(-1, -1),
    "plus": signs(1, 5, 6, 4),
    "parts": ints(32, 68),
    "frame": ints(0, 0, 1, 2, 0, 0, 2, 1),
    "one": np.float32(1),
    "minus": np.float32(-1),
    "flat_map": ints(1, 37, 24, 1),
    "twice": ints(1, 2, 1, 1),
    "wide": ints(1, 1, 2, 3),
    "rows": ints(3, 0, -1),
    "blocks": np.concatenate([np.arange(32) + 32 * block for block in (2, 0, 1, 2)]),
}


def test_each_move_that_the_graph_admits_has_a_lowering() -> None:
    assert set(LOWERINGS) == bit_moves.MOVES


@pytest.mark.parametrize(("move", "channels", "moved", "expected"), MOVES, ids=[move[0] for move in MOVES])
def test_moves_run_on_words(move: str, channels: int, moved: int, expected: dict[str, int]) -> None:
    body, weights = conv_after(move, moved)
    used = named_in(move)
    operators = assert_equal_in_lce(build(body, f"float[1, {channels}, 6, 4] x", **weights, **used))
    assert operators == {"LceQuantize": 1, "LceBconv2d": 1, **expected}


NOT_IN_WORDS = [
    ("t = Slice (s, i1, i4, i1)", 37, 3),
    ("t = Concat <axis = 1> (s, s)", 37, 74),
    ("t = Tile (s, twice)", 37, 74),
    ("t = Pad (s, frame, minus)", 37, 37),
    ("t = SpaceToDepth <blocksize = 2> (s)", 33, 132),
    ("t = DepthToSpace <blocksize = 2> (s)", 64, 16),
    ("t = Transpose <perm = [0, 2, 1, 3]> (s)", 37, 6),
]


@pytest.mark.parametrize(("move", "channels", "moved"), NOT_IN_WORDS, ids=[move[0] for move in NOT_IN_WORDS])
def test_moves_that_cut_words_run_on_floats(move: str, channels: int, moved: int) -> None:
    body, weights = conv_after(move, moved)
    used = named_in(move)
    operators = assert_equal_in_lce(build(body, f"float[1, {channels}, 6, 4] x", **weights, **used))
    assert operators["LceQuantize"] == 2


def test_signs_that_several_convolutions_and_float_operators_read_are_packed_and_unpacked_once() -> None:
    conv = "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [0, 0, 0, 0], pad_value = 0.0>"
    model = build(
        f"s = bnncc.Sign (x)\nu = {conv} (s, v, m, b)\nw = {conv} (s, v2, m, b)\nr = Relu (s)\nn = Neg (s)",
        "float[1, 37, 6, 4] x",
        "u, w, r, n",
        v=signs(3, 37, 1, 1),
        v2=signs(3, 37, 3, 3),
        m=np.ones(3, np.float32),
        b=np.zeros(3, np.float32),
    )
    operators = assert_equal_in_lce(model)
    assert operators["LceQuantize"] == 1
    assert operators["LceDequantize"] == 1


def test_a_moved_value_is_unpacked_behind_the_move_for_its_float_reader() -> None:
    body, weights = conv_after("t = Slice (s, i1, i4, i2)\nr = Relu (t)", 37)
    used = {name: CONSTANTS[name] for name in ("i1", "i2", "i4")}
    operators = assert_equal_in_lce(build(body, "float[1, 37, 6, 4] x", "y, r", **weights, **used))
    assert operators == {"LceQuantize": 1, "LceBconv2d": 1, "STRIDED_SLICE": 1, "LceDequantize": 1, "RELU": 1}


def test_features_of_rank_two_are_packed_for_a_binary_linear() -> None:
    body, weights = conv_after("t = Reshape (s, shape)", 137)
    operators = assert_equal_in_lce(build(body, "float[2, 137] x", **weights, shape=ints(2, 137, 1, 1)))
    assert operators == {"LceQuantize": 1, "RESHAPE": 1, "LceBconv2d": 1}


def test_unused_bits_stay_clear_through_quantisation_of_any_channel_count() -> None:
    for channels in (1, 31, 32, 33, 63, 64, 65, 200):
        body, weights = conv_after("t = Identity (s)", channels)
        assert_equal_in_lce(build(body, f"float[1, {channels}, 3, 3] x", **weights))
