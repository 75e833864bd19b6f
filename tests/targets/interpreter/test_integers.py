"""Operators of 8-bit integers at random: to the bit what LiteRT's reference kernels yield, in the interpreter and, with
the delegate, in LiteRT.

XNNPACK's kernels, and others that LiteRT prefers to these, multiply by a factor in float32 and may differ by 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.ir.arrays import Array
from bnncc.runtime import LitertRunner, kernels
from bnncc.targets.tflite.claimed import claimed
from bnncc.targets.tflite.integers import multiplying
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import ModelWriter, Quantization, Tensor
from tests.targets.interpreter.native import InterpreterRunner, library
from tests.targets.interpreter.test_operators import ACTIVATIONS, Rng, move_cases, shape_of, windows
from tests.targets.runtime.test_neighbours import delegates
from tests.targets.tflite.compare import draw, to_file
from tests.targets.tflite.test_integers import BODIES, in_int8, model_of

# Versions whose kernels take int8 and one scale a channel.
VERSIONS = {
    "DEQUANTIZE": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "QUANTIZE": 2,
    "PRELU": 1,
    "RELU_N1_TO_1": 1,
}

# What LiteRT has no int8 kernel for.
LACKING = {"TILE"}
# What the delegate leaves to LiteRT, which rounds nothing there.
STOCK = {"BROADCAST_TO", "GATHER", "RESIZE_NEAREST_NEIGHBOR", "MIRROR_PAD"}


def reference(content: bytes, inputs: list[Array]) -> Array:
    """The first output of LiteRT's reference kernels."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    interpreter.allocate_tensors()
    for entry, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(entry["index"], array)
    interpreter.invoke()
    found: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return found


def one_scale(rng: Rng, least: float = 0.002, dtype: str = "int8") -> Quantization:
    """From some hundredths to some units, logarithmically."""
    bounds = np.iinfo(dtype)
    scale = np.float32(least * 10 ** rng.uniform(0, 2))
    return Quantization((float(scale),), (int(rng.integers(bounds.min, bounds.max + 1)),), 0)


def integers(rng: Rng, shape: tuple[int, ...], dtype: str = "int8") -> Array:
    bounds = np.iinfo(dtype)
    found: Array = rng.integers(bounds.min, bounds.max + 1, shape).astype(dtype)
    return found


class Case:
    """A file of one operator: arrays with scales in, one out."""

    def __init__(self) -> None:
        self.writer = ModelWriter("test")
        self.given: list[Tensor] = []
        self.inputs: list[Array] = []
        self.operands: list[Tensor] = []

    def read(self, array: Array, scale: Quantization | None) -> None:
        tensor = self.writer.tensor(f"x{len(self.given)}", array.shape, array.dtype, scale)
        self.given.append(tensor)
        self.operands.append(tensor)
        self.inputs.append(array)

    def read_constant(self, array: Array, scale: Quantization | None) -> None:
        self.operands.append(self.writer.constant("constant", array, scale))

    def check(
        self,
        name: str,
        shape: tuple[int, ...],
        scale: Quantization | None,
        options: object = None,
        dtype: str = "int8",
        version: int | None = None,
    ) -> Array:
        y = self.writer.tensor("y", shape, dtype, scale)
        version = version or VERSIONS.get(name, 2)
        self.writer.operator(getattr(BuiltinOperator, name), self.operands, [y], options, version)
        content = self.writer.finish(self.given, [y], [tensor.name for tensor in self.given], ["y"])
        wanted = reference(content, self.inputs)
        for threads in (1, 2):
            (found,) = InterpreterRunner(content, threads).run(self.inputs)
            np.testing.assert_array_equal(found, wanted)
        for kernel in kernels():
            runner = LitertRunner(content, kernel=kernel)
            assert delegates(runner) == (name not in STOCK), name
            np.testing.assert_array_equal(runner.run(self.inputs)[0], wanted, kernel)
        return wanted


def test_every_table_of_kernels_multiplies_exactly() -> None:
    """Depths and outputs that fill no vector, factors that end on ties, the largest numbers of all."""
    assert library().bnncc_check_integer_kernels() > 0


def layer(rng: Rng, x: Array, weight: Array, axis: int, depth: int, *, shares_scale: bool) -> tuple[Case, Quantization]:
    """Input, weights, bias; and a scale in which the output fills its range."""
    case, scale = Case(), one_scale(rng)
    outputs = weight.shape[axis]
    case.read(x, scale)
    scales = (0.001 * 10 ** rng.uniform(0, 1, 1 if shares_scale else outputs)).astype(np.float32)
    zeros = (0,) * len(scales)
    case.read_constant(weight, Quantization(tuple(scales.tolist()), zeros, axis))
    bias = rng.integers(-5000, 5000, outputs).astype(np.int32)
    bias_scales = tuple((np.float32(scale.scales[0]) * scales).tolist())
    case.read_constant(bias, Quantization(bias_scales, zeros, 0))
    wide = float(np.float32(scale.scales[0] * scales.mean() * 73 * np.sqrt(depth) * 73 / 60))
    return case, Quantization((wide,), (int(rng.integers(-60, 60)),), 0)


def weights(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.integers(-127, 128, shape).astype(np.int8)


@pytest.mark.parametrize("seed", range(24))
def test_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel = (int(rng.choice([1, 2, 3, 5, 7])), int(rng.choice([1, 2, 3, 5, 7])))
    if seed % 6 == 0:
        kernel = (1, 1)
    channels = int(rng.choice([1, 2, 3, 4, 16, 32, 39]))
    filters = int(rng.integers(1, 90))
    options: Any
    if seed % 2:
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = int(rng.integers(1, 4))
        filters = channels * options.depthMultiplier
        weight, axis, depth = weights(rng, (1, *kernel, filters)), 3, kernel[0] * kernel[1]
    else:
        options = schema.Conv2DOptionsT()
        groups = int(rng.choice([n for n in (1, 1, 2, 3, 4) if channels % n == 0]))
        filters *= groups
        weight, axis = weights(rng, (filters, *kernel, channels // groups)), 0
        depth = kernel[0] * kernel[1] * channels // groups
    options.fusedActivationFunction = int(rng.choice(ACTIVATIONS))
    size, outputs = windows(rng, options, kernel, dilates=True)
    x = integers(rng, (int(rng.integers(1, 3)), *size, channels))
    case, scale = layer(rng, x, weight, axis, depth, shares_scale=False)
    case.check(
        "DEPTHWISE_CONV_2D" if seed % 2 else "CONV_2D", (len(x), outputs[0], outputs[1], filters), scale, options
    )


@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 1), (1, 130, 67), (5, 9, 8), (70, 33, 12), (3, 64, 5)])
@pytest.mark.parametrize("shares_scale", [True, False])
def test_linear_layers(rows: int, depth: int, columns: int, shares_scale: bool) -> None:
    rng = np.random.default_rng(depth)
    for activation in ACTIVATIONS:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        x, weight = integers(rng, (rows, depth)), weights(rng, (columns, depth))
        case, scale = layer(rng, x, weight, 0, depth, shares_scale=shares_scale)
        case.check("FULLY_CONNECTED", (rows, columns), scale, options)


def test_a_scale_that_makes_numbers_larger_is_exact_too() -> None:
    rng = np.random.default_rng(0)
    for factor in (0.49, 0.9999999, 1.0, 1.5, 3.9, 130.0):
        case, options = Case(), schema.Conv2DOptionsT()
        options.strideH = options.strideW = 1
        case.read(integers(rng, (1, 5, 5, 3)), Quantization((factor,), (3,), 0))
        case.read_constant(weights(rng, (9, 1, 1, 3)), Quantization((1.0,) * 9, (0,) * 9, 0))
        case.read_constant(rng.integers(-9, 9, 9).astype(np.int32), Quantization((factor,) * 9, (0,) * 9, 0))
        case.check("CONV_2D", (1, 5, 5, 9), Quantization((1.0,), (-4,), 0), options)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("name", ["ADD", "MUL"])
def test_sums_and_products(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 40)) if seed % 3 else 3
    shape = (int(rng.integers(1, 3)), *shape_of(rng, 2, 40), channels)
    n, height, width, _ = shape
    others = [(1, 1, 1, channels), shape, (), (n, height, width, 1), (1, 1, width, channels), (n, 1, 1, 1), (channels,)]
    other = others[seed % len(others)]
    options: Any = schema.AddOptionsT() if name == "ADD" else schema.MulOptionsT()
    case = Case()
    options.fusedActivationFunction = int(rng.choice(ACTIVATIONS))
    scales = one_scale(rng), one_scale(rng)
    case.read(integers(rng, shape), scales[0])
    (case.read_constant if seed % 4 < 2 else case.read)(integers(rng, other), scales[1])
    if seed % 5 == 0:
        case.operands.reverse()
    largest = max(scale.scales[0] for scale in scales)
    if name == "MUL":
        largest = scales[0].scales[0] * scales[1].scales[0] * 100
    case.check(name, shape, Quantization((float(np.float32(largest * rng.uniform(0.7, 2))),), (9,), 0), options)


@pytest.mark.parametrize("seed", range(4))
def test_slopes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, *shape_of(rng, 2, 9), int(rng.integers(1, 40)))
    case, scale = Case(), one_scale(rng)
    case.read(integers(rng, shape), scale)
    case.read_constant(integers(rng, (1, 1, shape[3])), one_scale(rng, 0.001))
    y = Quantization((float(np.float32(scale.scales[0] * rng.uniform(0.5, 2))),), (int(rng.integers(-90, 90)),), 0)
    case.check("PRELU", shape, y)


@pytest.mark.parametrize("name", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_rectifiers(name: str) -> None:
    rng = np.random.default_rng(1)
    every = np.arange(-128, 128).astype(np.int8)
    for _ in range(8):
        case, scale = Case(), one_scale(rng)
        case.read(every, scale)
        y = Quantization((float(np.float32(scale.scales[0] * rng.uniform(0.3, 3))),), (int(rng.integers(-90, 90)),), 0)
        case.check(name, every.shape, y)


@pytest.mark.parametrize("dtypes", [("int8", "int8"), ("uint8", "int8"), ("int8", "uint8"), ("uint8", "uint8")])
def test_other_scales(dtypes: tuple[str, str]) -> None:
    rng = np.random.default_rng(2)
    bounds = np.iinfo(dtypes[0])
    every = np.arange(bounds.min, bounds.max + 1).astype(dtypes[0])
    for same in (True, *[False] * 7):
        case, scale = Case(), one_scale(rng, dtype=dtypes[0])
        case.read(every, scale)
        factor = 1 if same else rng.uniform(0.3, 3)
        point = int(rng.integers(0, 90))
        if same:
            point = scale.zero_points[0] + np.iinfo(dtypes[1]).min - bounds.min
        y = Quantization((float(np.float32(scale.scales[0] * factor)),), (point,), 0)
        case.check("QUANTIZE", every.shape, y, schema.QuantizeOptionsT(), dtypes[1])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_floats_become_integers_and_integers_floats(dtype: str) -> None:
    """Ties and what no integer of the scale stands for."""
    rng = np.random.default_rng(3)
    bounds = np.iinfo(dtype)
    for size in (1, 7, 300):
        case, scale = Case(), one_scale(rng, dtype=dtype)
        if dtype == "int16":
            scale = Quantization(scale.scales, (0,), 0)
        reach = 600 if dtype != "int16" else 70_000
        steps = np.concatenate([rng.integers(-reach, reach, size) / 2, [0.49999997, -0.49999997, 1e9, -1e9]])
        case.read((steps * scale.scales[0]).astype(np.float32), None)
        case.check("QUANTIZE", (size + 4,), scale, schema.QuantizeOptionsT(), dtype, version=1)
        case = Case()
        case.read(np.arange(bounds.min, bounds.max + 1).astype(dtype)[:size], scale)
        version = 3 if dtype == "int16" else 2
        case.check("DEQUANTIZE", case.inputs[0].shape, None, schema.DequantizeOptionsT(), "float32", version)


def around_ties(scale: float, steps: Array) -> Array:
    """The float32s next to (n - ½) · scale, on both sides, with both signs."""
    ties = ((steps - 0.5) * scale).astype(np.float32)
    near = [(ties.view(np.int32) + distance).astype(np.int32).view(np.float32) for distance in range(-4, 5)]
    return np.concatenate([*near, *(-one for one in near)])


def test_products_by_a_reciprocal_are_the_integers_of_quotients() -> None:
    """Where the delegate multiplies, LiteRT's reference kernel divides: by scales for which both yield the same, and by
    powers of two.
    """
    rng = np.random.default_rng(4)
    for exact, point in ((True, 0), (True, -128), (True, 127), (False, -5)):
        (scale,) = one_scale(rng).scales
        found = multiplying(np.float32(scale)) if exact else np.float32(scale)
        assert abs(found / scale - 1) < 1e-3
        x = around_ties(float(found), np.arange(1, 300))
        case = Case()
        case.read(x, None)
        y = Quantization((float(found),), (point,), 0)
        case.check("QUANTIZE", x.shape, y, schema.QuantizeOptionsT(), version=1)
        # Of any scale some product lies on the other side of its tie, of one that was chosen none.
        quotients, products = (
            np.trunc(steps + np.copysign(np.float32(0.49999997), steps)).clip(-255, 255)
            for steps in (x / found, x * (np.float32(1) / found))
        )
        assert np.array_equal(quotients, products) == exact
    for power in (-20, -3, 5):
        x = around_ties(2.0**power, np.concatenate([np.arange(1, 99), rng.integers(1, 32_800, 300), [32_768]]))
        special = np.array([1e-45, -1e-40, 3e4 * 2.0**power, 1e9 * 2.0**power, -1e9 * 2.0**power], np.float32)
        case = Case()
        case.read(np.concatenate([x, special]), None)
        y = Quantization((2.0**power,), (0,), 0)
        case.check("QUANTIZE", (x.size + 5,), y, schema.QuantizeOptionsT(), "int16", version=1)


def test_what_is_side_by_side_has_one_scale() -> None:
    rng = np.random.default_rng(4)
    for channels in ([3, 5], [1, 32, 70]):
        case, scale, options = Case(), one_scale(rng), schema.ConcatenationOptionsT()
        options.axis = -1
        for size in channels:
            case.read(integers(rng, (2, 5, 3, size)), scale)
        case.check("CONCATENATION", (2, 5, 3, sum(channels)), scale, options)


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("seed", range(6))
def test_pools(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    options.fusedActivationFunction = int(rng.choice(ACTIVATIONS))
    size, outputs = windows(rng, options, kernel, dilates=False)
    case, scale = Case(), one_scale(rng)
    channels = int(rng.integers(1, 40))
    case.read(integers(rng, (2, *size, channels)), scale)
    case.check(name, (2, outputs[0], outputs[1], channels), scale, options)


@pytest.mark.parametrize("seed", range(2))
def test_moves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    versions = {"REVERSE_V2": 3, "RESHAPE": 1, "DEPTH_TO_SPACE": 1, "GATHER": 2}
    for name, ((arrays, constant, shapes, _, options), _) in move_cases(rng, "int32").items():
        case, scale = Case(), one_scale(rng)
        for index, array in enumerate(arrays):
            assert array is not None
            # Neither shapes and axes nor GATHER's indices.
            is_value = index == 0 if name == "GATHER" else array.ndim > 2 or (name == "PADV2" and index == 2)
            values = array.astype(np.int8) if is_value else array
            own = scale if values.dtype == np.int8 else None
            (case.read_constant if index in constant else case.read)(values, own)
        if len(shapes) == 1 and name not in LACKING:
            case.check(name, shapes[0], scale, options, version=versions.get(name, 2))


def test_layers_yield_the_same_in_litert_and_in_the_interpreter() -> None:
    """Of files with all of their layers in int8, of which no operator is LiteRT's own."""
    rng = np.random.default_rng(0)
    for name, body in BODIES.items():
        model = model_of(body)
        x = draw(model.graph.inputs[0], rng)
        content = in_int8(model, x)
        file = TfliteFile(content)
        assert claimed(file) == {operator.index for operator in file.operators}, name
        runner = LitertRunner(content)
        assert [node["op_name"] for node in runner._interpreter._get_ops_details()][len(file.operators) :] == [
            "DELEGATE"
        ]
        for found, wanted in zip(runner.run([to_file(x)]), InterpreterRunner(content).run([to_file(x)]), strict=True):
            np.testing.assert_array_equal(found, wanted, name)
