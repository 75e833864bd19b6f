"""Float layers in int8: the specification's numbers, what runs in int8, and what LCE's interpreter and LiteRT make of
it.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnncc.calibration import METHODS, narrowed
from bnncc.cli.compile import CALIBRATIONS
from bnncc.inference.graph_runner import OrtRunner
from bnncc.inference.runners import LceRunner
from bnncc.runtime import LitertRunner
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.integer_file import as_integers
from bnncc.targets.tflite.integer_plan import plan
from bnncc.targets.tflite.integers import LARGEST_BIAS, parameters, quantized, quantized_layer
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import Quantization
from bnncc.verification.integer_operators import COMPUTED, expected, scaled
from tests.targets.interpreter.native import InterpreterRunner
from tests.targets.tflite.compare import draw, from_file, node_model, normal, operators, to_file

Array = npt.NDArray[np.float32]


# Numbers


@pytest.mark.parametrize("bounds", [(-1.5, 3.0), (0.0, 6.0), (2.0, 6.0), (-8.0, -3.0), (-1e-3, 1e5)])
def test_the_steps_of_an_activation_reach_from_bound_to_bound_and_hold_0(bounds: tuple[float, float]) -> None:
    found = parameters(*bounds)
    (scale,), (point,) = found.scales, found.zero_points
    low, high = min(bounds[0], 0), max(bounds[1], 0)
    assert quantized(0.0, found) == point
    # 255 steps; the zero point is rounded to one of them.
    assert abs(scale * (-128 - point) - low) <= scale / 2 * (1 + 1e-5)
    assert abs(scale * (127 - point) - high) <= scale / 2 * (1 + 1e-5)


def test_what_is_always_0_has_a_scale() -> None:
    assert parameters(0.0, 0.0) == Quantization((1.0,), (0,), 0)


def test_numbers_are_rounded_as_onnx_rounds_them() -> None:
    x = np.float32([-0.75, -0.25, 0.25, 0.75, 1.25, 40, -40, 0.1])
    model = node_model("y = QuantizeLinear(x, s, z)", "float[8] x", constants={"s": np.float32(0.5), "z": np.int8(3)})
    np.testing.assert_array_equal(quantized(x, Quantization((0.5,), (3,), 0)), OrtRunner(model).run([x])[0])


def test_a_channel_without_weights_keeps_its_bias() -> None:
    weight, bias = normal(3, 4), np.float32([1e-3, 7.25, -2.0])
    weight[1] = 0
    x = parameters(-1.0, 1.0)
    integers, _, offsets, steps = quantized_layer(weight, bias, 0, x, shares_scale=False)
    np.testing.assert_allclose(offsets * np.array(steps.scales), bias, rtol=0, atol=np.array(steps.scales).max())
    assert abs(offsets[1] * steps.scales[1] - 7.25) < 1e-7
    assert np.all(np.abs(offsets) <= LARGEST_BIAS)
    assert not integers[1].any()


@given(st.integers(-(2**30), 2**30), st.floats(2.0**-40, 1.0))
def test_a_factor_in_fixed_point_is_the_product_rounded_twice_at_most(x: int, factor: float) -> None:
    exact = Fraction(x) * Fraction(factor)
    # The multiplier has 31 bits; the first rounding is to half a unit of the result at least.
    assert abs(int(scaled(np.int64([x]), factor)[0]) - exact) <= Fraction(3, 4) + abs(exact) / 2**30


@pytest.mark.parametrize(("x", "wanted"), [(2, 1), (6, 2), (-2, -1), (-6, -2), (4, 1), (1, 1), (-1, 0)])
def test_ties_are_rounded_as_the_reference_kernels_do(x: int, wanted: int) -> None:
    """By hand, from gemmlowp's SaturatingRoundingDoublingHighMul and RoundingDivideByPOT."""
    assert scaled(np.int64([x]), 0.25)[0] == wanted


def test_the_command_line_offers_the_methods_that_there_are() -> None:
    assert CALIBRATIONS == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_ranges_hold_most_of_what_was_seen(method: str) -> None:
    """A bell curve, and one number far out: with it in the range, most steps would be of no use."""
    numbers = np.append(np.random.default_rng(0).normal(size=100_000), 40.0)
    edges = np.linspace(numbers.min(), numbers.max(), 2049)
    low, high = narrowed(method, np.histogram(numbers, edges)[0], edges)
    inside = np.mean((numbers >= low) & (numbers <= high))
    assert inside > 0.99
    assert (high == 40.0) == (method == "min-max")


# Operators

W, B = normal(24, 8, 3, 3), normal(24)
# Each behind a convolution, where it reads int8.
BODIES = {
    "conv": "y = Conv<pads=[1, 1, 1, 1]>(x, w, b)",
    "strided": "y = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(x, w, b)",
    "dilated, with relu": "a = Conv<dilations=[2, 2]>(x, w, b) y = Relu(a)",
    "with relu6": "a = Conv(x, w, b) y = Clip(a, zero, six)",
    "in groups": "a = Conv(x, w, b) y = Conv<group=3, pads=[1, 1, 1, 1]>(a, g, b)",
    "depthwise": "a = Conv(x, w, b) y = Conv<group=24, pads=[1, 1, 1, 1]>(a, d)",
    "max pool": "a = Conv(x, w, b) y = MaxPool<kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]>(a)",
    "average pool": "a = Conv(x, w, b) y = AveragePool<kernel_shape=[2, 2], strides=[2, 2]>(a)",
    "add": "a = Conv(x, w, b) c = Conv(x, v, b) y = Add(a, c)",
    "add a constant": "a = Conv(x, w, b) y = Add(a, k)",
    "prelu": "a = Conv(x, w, b) y = PRelu(a, p)",
    "linear": "f = Flatten(x) a = Gemm(f, l, m) y = Relu(a)",
}
CONSTANTS = {
    "w": W, "b": B, "d": normal(24, 1, 3, 3, seed=1), "v": normal(24, 8, 3, 3, seed=2), "k": normal(24, 1, 1, seed=3),
    "p": np.abs(normal(24, 1, 1, seed=4)), "l": normal(8 * 9 * 9, 40, seed=5), "m": normal(40, seed=6),
    "g": normal(24, 8, 3, 3, seed=7), "zero": np.float32(0), "six": np.float32(6),
}  # fmt: skip


def model_of(body: str) -> ir.Model:
    used = {name: array for name, array in CONSTANTS.items() if f"{name}," in body or f"{name})" in body}
    return node_model(body, "float[2, 8, 9, 9] x", constants=used)


def in_int8(model: ir.Model, x: Array) -> bytes:
    """The file with its layers in int8, in the ranges of this input."""
    file = TfliteFile(emit(model))
    found = plan(file)
    computed = [tensor for tensor in found.tensors if tensor.index != file.inputs[0].index]
    arrays = LceRunner(file.variant(file.inputs, computed)).run([to_file(x)])
    arrays += [x] * (len(found.tensors) - len(computed))
    tensors = [*computed, *(tensor for tensor in found.tensors if tensor not in computed)]
    ranges = {one.name: (float(array.min()), float(array.max())) for one, array in zip(tensors, arrays, strict=True)}
    return as_integers(file, found, ranges)


@pytest.mark.parametrize("name", BODIES)
def test_int8_operators_compute_what_the_network_does_in_steps_and_what_the_specification_says(name: str) -> None:
    model = model_of(BODIES[name])
    x = draw(model.graph.inputs[0], np.random.default_rng(1))
    content = in_int8(model, x)
    file = TfliteFile(content)
    last = next(one for one in reversed(file.operators) if one.name not in ("DEQUANTIZE", "RESHAPE"))
    assert last.outputs[0].dtype == "int8"
    assert operators(content)["QUANTIZE"] == operators(content)["DEQUANTIZE"] == 1
    (wanted,) = OrtRunner(model).run([x])
    inner = file.variant(file.inputs, [*file.activations(last), last.outputs[0]])
    for runner in (LceRunner, LitertRunner, InterpreterRunner):
        found = from_file(runner(content).run([to_file(x)])[0])
        # Most of it is the input's rounding: 72 and more products of steps of 1/255 of its range.
        assert np.abs(found - wanted).max() <= 0.06 * np.abs(wanted).max()
        assert np.sqrt(np.mean((found - wanted) ** 2)) <= 0.03 * np.sqrt(np.mean(wanted**2))
        if last.name in COMPUTED:
            *read, yields = runner(inner).run([to_file(x)])
            difference = np.abs(yields.astype(int) - expected(file, last, read))
            assert difference.max() <= (runner is not InterpreterRunner)
            assert np.mean(difference > 0) < 0.05


# What runs in int8

PLANS = {
    "conv ─ max pool ─ add of floats": (
        "c = Conv(x, w) a = MaxPool<kernel_shape=[2, 2]>(c) e = Exp(x) f = MaxPool<kernel_shape=[2, 2]>(e) "
        "y = Add(a, f)",
        ["CONV_2D", "MAX_POOL_2D"],
    ),
    # The sum is read as floats, and so would be what the pool reads.
    "conv ─ two readers": (
        "c = Conv(x, w) a = MaxPool<kernel_shape=[1, 1]>(c) e = Exp(c) y = Add(a, e)",
        ["CONV_2D"],
    ),
    "conv ─ conv": ("c = Conv(x, w) y = Conv(c, v)", ["CONV_2D", "CONV_2D"]),
    "conv ─ exp ─ conv": ("c = Conv(x, w) e = Exp(c) y = Conv(e, v)", ["CONV_2D", "CONV_2D"]),
    "move ─ conv": ("t = Transpose<perm=[0, 1, 3, 2]>(x) y = Conv(t, w)", ["TRANSPOSE", "CONV_2D"]),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), PLANS.values(), ids=PLANS)
def test_an_operator_runs_in_int8_where_that_saves_a_pass(body: str, wanted: list[str]) -> None:
    constants = {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1, seed=1)}
    used = {name: array for name, array in constants.items() if f"{name})" in body}
    file = TfliteFile(emit(node_model(body, "float[1, 8, 6, 6] x", constants=used)))
    assert [file.operators[index].name for index in sorted(plan(file).operators)] == wanted
