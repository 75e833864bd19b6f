"""Single operators at random, beside LiteRT: shapes that broadcast, odd sizes, every option that the emitter writes.

What the emitter itself makes of each ONNX operator is compared in tests/targets/tflite.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner
from bnncc.targets.tflite.writer import ModelWriter, Quantization
from tests.targets.interpreter.native import InterpreterRunner

# Of the largest output, for sums of some hundred products, and for functions of the C library.
TOLERANCE = 2e-6
Rng = np.random.Generator
# An operator's inputs (None: absent), which of them are constants, the outputs' shapes and type, and its options.
Case = tuple[list[Array | None], set[int], list[tuple[int, ...]], str, object]


def file(builtin: int, case: Case, version: int = 1) -> tuple[bytes, list[Array]]:
    """A file of one operator, and its inputs that are no constants."""
    arrays, constant, shapes, dtype, options = case
    writer = ModelWriter("test")
    inputs, operands = [], []
    for index, array in enumerate(arrays):
        if array is None:
            operands.append(None)
        elif index in constant:
            operands.append(writer.constant(f"constant{index}", array))
        else:
            operands.append(writer.tensor(f"x{index}", array.shape, array.dtype))
            inputs.append(array)
    results = [writer.tensor(f"y{index}", shape, dtype) for index, shape in enumerate(shapes)]
    writer.operator(builtin, operands, results, options, version)
    given = [operand for index, operand in enumerate(operands) if operand is not None and index not in constant]
    names = [tensor.name for tensor in given], [tensor.name for tensor in results]
    return writer.finish(given, results, *names), inputs


def assert_litert_s(content: bytes, inputs: list[Array], tolerance: float = TOLERANCE) -> None:
    wanted = LitertRunner(content, delegate=False).run(inputs)
    for threads in (1, 2):
        for found, expected in zip(InterpreterRunner(content, threads).run(inputs), wanted, strict=True):
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            if found.dtype.kind == "f":
                np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
                scale = np.abs(expected[np.isfinite(expected)]).max(initial=0) or 1
                np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
            else:
                np.testing.assert_array_equal(found, expected)


def shape_of(rng: Rng, rank: int, most: int = 7) -> tuple[int, ...]:
    return tuple(int(size) for size in rng.integers(1, most + 1, rank))


def floats(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.normal(size=shape).astype(np.float32)


def values(rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    if dtype == "float32":
        return floats(rng, shape)
    return (rng.integers(0, 2, shape) if dtype == "bool" else rng.integers(-9, 10, shape)).astype(dtype)


def broadcasting(rng: Rng, count: int) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Shapes of up to four axes that broadcast, and the shape that they give together."""
    whole = shape_of(rng, int(rng.integers(1, 5)), 9)
    shapes = [whole]
    for _ in range(count - 1):
        kept = whole[int(rng.integers(0, len(whole) + 1)) :]
        shapes.append(tuple(1 if rng.random() < 0.3 else size for size in kept))
    return [shapes[index] for index in rng.permutation(count)], whole


ACTIVATIONS = [0, 1, 2, 3]
ARITHMETIC = {
    "ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT, "DIV": schema.DivOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT, "MINIMUM": schema.MaximumMinimumOptionsT,
}  # fmt: skip
COMPARISONS = {
    "EQUAL": schema.EqualOptionsT, "NOT_EQUAL": schema.NotEqualOptionsT, "LESS": schema.LessOptionsT,
    "LESS_EQUAL": schema.LessEqualOptionsT, "GREATER": schema.GreaterOptionsT,
    "GREATER_EQUAL": schema.GreaterEqualOptionsT,
}  # fmt: skip


@pytest.mark.parametrize("name", [*ARITHMETIC, *COMPARISONS])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_two_tensors(name: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(8):
        shapes, whole = broadcasting(rng, 2)
        a, b = (values(rng, shape, dtype) for shape in shapes)
        options = {**ARITHMETIC, **COMPARISONS}[name]()
        if hasattr(options, "fusedActivationFunction") and dtype == "float32":
            options.fusedActivationFunction = int(rng.choice(ACTIVATIONS))
        if name == "DIV":
            b = np.where(b == 0, 1, b).astype(dtype)
        constant = set(rng.choice([set(), {0}, {1}]))
        case: Case = ([a, b], constant, [whole], dtype if name in ARITHMETIC else "bool", options)
        assert_litert_s(*file(getattr(BuiltinOperator, name), case))


FUNCTIONS = {
    "ABS": schema.AbsOptionsT, "NEG": schema.NegOptionsT, "SQRT": None, "SQUARE": schema.SquareOptionsT,
    "EXP": schema.ExpOptionsT, "LOG": None, "SIN": None, "COS": schema.CosOptionsT, "SIGN": schema.SignOptionsT,
    "ROUND": None, "FLOOR": None, "CEIL": None, "RELU": None, "RELU6": None, "RELU_N1_TO_1": None, "RELU_0_TO_1": None,
    "ELU": None, "GELU": schema.GeluOptionsT, "HARD_SWISH": schema.HardSwishOptionsT, "LOGISTIC": None, "TANH": None,
    "LOG_SOFTMAX": schema.LogSoftmaxOptionsT,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_tensor(name: str) -> None:
    rng = np.random.default_rng(2)
    make = FUNCTIONS[name]
    for scale in (1, 6):
        x = scale * floats(rng, shape_of(rng, 3, 9))
        x = np.abs(x) if name in ("LOG", "SQRT") else np.round(2 * x) / 2 if name == "ROUND" else x
        case: Case = ([x], set(), [x.shape], "float32", make() if make else None)
        assert_litert_s(*file(getattr(BuiltinOperator, name), case))


@pytest.mark.parametrize("shape", [(3, 7), (1, 5, 6, 13), (2, 40)])
def test_softmax_and_slopes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    x, slopes = 4 * floats(rng, shape), floats(rng, shape[-1:])
    softmax, leaky = schema.SoftmaxOptionsT(), schema.LeakyReluOptionsT()
    softmax.beta, leaky.alpha = 1.0, 0.3
    assert_litert_s(*file(BuiltinOperator.SOFTMAX, ([x], set(), [shape], "float32", softmax)))
    assert_litert_s(*file(BuiltinOperator.LEAKY_RELU, ([x], set(), [shape], "float32", leaky)))
    assert_litert_s(*file(BuiltinOperator.PRELU, ([x, slopes], {1}, [shape], "float32", None)))


def windows(rng: Rng, options: object, kernel: tuple[int, int], dilates: bool) -> tuple[tuple[int, int], list[int]]:
    """Random strides, padding, dilation; a map's size, and the output's, by TensorFlow's rules."""
    strides = [int(rng.integers(1, 4)) for _ in range(2)]
    dilations = [int(rng.integers(1, 3)) if dilates and max(strides) == 1 else 1 for _ in range(2)]
    options.padding = int(rng.integers(0, 2))
    options.strideH, options.strideW = strides
    if dilates:
        options.dilationHFactor, options.dilationWFactor = dilations
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = tuple(r + int(rng.integers(0, 12)) for r in reach)
    outputs = [
        -(-n // s) if options.padding == schema.Padding.SAME else (n - r) // s + 1
        for n, s, r in zip(size, strides, reach, strict=True)
    ]
    return size, outputs


@pytest.mark.parametrize("most_channels", [4, 39])  # lines are read in place, or patches are gathered
@pytest.mark.parametrize("seed", range(12))
def test_convolutions(seed: int, most_channels: int) -> None:
    rng = np.random.default_rng(seed)
    kernel = tuple(int(rng.choice([1, 2, 3, 5, 7])) for _ in range(2))
    batch, channels = int(rng.integers(1, 3)), int(rng.integers(1, most_channels + 1))
    filters = int(rng.integers(1, 90))
    if seed % 2:
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = int(rng.integers(1, 4))
        filters = channels * options.depthMultiplier
        weight = floats(rng, (1, *kernel, filters))
        builtin = BuiltinOperator.DEPTHWISE_CONV_2D
    else:
        options = schema.Conv2DOptionsT()
        groups = int(rng.choice([n for n in (1, 2, 3, 5) if channels % n == 0]))
        filters *= groups
        weight = floats(rng, (filters, *kernel, channels // groups))
        builtin = BuiltinOperator.CONV_2D
    options.fusedActivationFunction = int(rng.choice(ACTIVATIONS))
    size, outputs = windows(rng, options, kernel, dilates=True)
    x, bias = floats(rng, (batch, *size, channels)), floats(rng, (filters,))
    case: Case = ([x, weight, bias], {1, 2}, [(batch, *outputs, filters)], "float32", options)
    # The sums are larger than what an activation leaves of them.
    assert_litert_s(*file(builtin, case, 2 if seed % 2 else 1), 4 * TOLERANCE)


@pytest.mark.parametrize("seed", range(6))
def test_transposed_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = schema.TransposeConvOptionsT()
    options.padding = seed % 2
    options.strideH, options.strideW = strides = [int(rng.integers(1, 4)) for _ in range(2)]
    kernel = [int(rng.integers(1, 5)) for _ in range(2)]
    size = [int(rng.integers(2, 8)) for _ in range(2)]
    whole = [
        n * s if options.padding == schema.Padding.SAME else (n - 1) * s + k
        for n, s, k in zip(size, strides, kernel, strict=True)
    ]
    x, weight, bias = floats(rng, (1, *size, 9)), floats(rng, (7, *kernel, 9)), floats(rng, (7,))
    shape = (1, *whole, 7)
    case: Case = ([np.array(shape, np.int32), weight, x, bias], {0, 1, 3}, [shape], "float32", options)
    assert_litert_s(*file(BuiltinOperator.TRANSPOSE_CONV, case, 3))


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("seed", range(4))
def test_pools(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    options.fusedActivationFunction = int(rng.choice(ACTIVATIONS))
    size, outputs = windows(rng, options, kernel, dilates=False)
    x = floats(rng, (2, *size, 11))
    case: Case = ([x], set(), [(2, *outputs, 11)], "float32", options)
    assert_litert_s(*file(getattr(BuiltinOperator, name), case))


@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 1), (1, 130, 67), (5, 9, 8), (70, 33, 12)])
def test_matrix_products(rows: int, depth: int, columns: int) -> None:
    rng = np.random.default_rng(4)
    x, weight, bias = floats(rng, (rows, depth)), floats(rng, (columns, depth)), floats(rng, (columns,))
    for activation in ACTIVATIONS:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        case: Case = ([x, weight, bias], {1, 2}, [(rows, columns)], "float32", options)
        assert_litert_s(*file(BuiltinOperator.FULLY_CONNECTED, case))
    for swaps_a, swaps_b in ((False, False), (True, False), (False, True)):
        product = schema.BatchMatMulOptionsT()
        product.adjX, product.adjY = swaps_a, swaps_b
        a = floats(rng, (3, 1, depth, rows) if swaps_a else (3, 1, rows, depth))
        b = floats(rng, (2, columns, depth) if swaps_b else (2, depth, columns))
        case = ([a, b], set(), [(3, 2, rows, columns)], "float32", product)
        assert_litert_s(*file(BuiltinOperator.BATCH_MATMUL, case))


@pytest.mark.parametrize("name", ["SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"])
def test_reductions(name: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(6):
        dtype = str(rng.choice(["float32", "int32"])) if name != "MEAN" else "float32"
        shape = shape_of(rng, 4)
        axes = sorted(rng.choice(4, int(rng.integers(1, 5)), replace=False).tolist())
        options = schema.ReducerOptionsT()
        options.keepDims = bool(rng.integers(0, 2))
        kept = [1 if i in axes else n for i, n in enumerate(shape) if options.keepDims or i not in axes]
        x = values(rng, shape, dtype)
        case: Case = ([x, np.array(axes, np.int32)], {1}, [tuple(kept)], dtype, options)
        assert_litert_s(*file(getattr(BuiltinOperator, name), case))


def move_cases(rng: Rng, dtype: str) -> dict[str, tuple[Case, int]]:
    """One random file of each operator that moves data: its case and version."""
    shape = shape_of(rng, 4)
    x = values(rng, shape, dtype)
    order = rng.permutation(4)
    begins = [int(rng.integers(0, n)) for n in shape]
    ends = [int(rng.integers(b + 1, n + 1)) for b, n in zip(begins, shape, strict=True)]
    steps = [int(rng.integers(1, 3)) for _ in shape]
    pads = rng.integers(0, 3, (4, 2))
    mirrored = np.minimum(pads, np.array(shape)[:, None] - 1)
    repeats = rng.integers(1, 3, 4)
    axis = int(rng.integers(0, 4))
    indices = rng.integers(0, shape[axis], (2, 3))
    spread = tuple(n if n > 1 else int(rng.integers(1, 4)) for n in shape)
    small, large = values(rng, (2, 6, 4, 3), dtype), values(rng, (2, 3, 2, 12), dtype)
    block, unblock = schema.SpaceToDepthOptionsT(), schema.DepthToSpaceOptionsT()
    block.blockSize = unblock.blockSize = 2
    join, split, gather = schema.ConcatenationOptionsT(), schema.SplitOptionsT(), schema.GatherOptionsT()
    join.axis = gather.axis = axis
    split.numSplits = 2
    parts = schema.SplitVOptionsT()
    parts.numSplits = 2
    reflect = schema.MirrorPadOptionsT()
    wide = (*shape[:axis], 5, *shape[axis + 1 :])
    cut = lambda size: (*shape[:axis], size, *shape[axis + 1 :])  # noqa: E731
    i32 = lambda numbers: np.asarray(numbers, np.int32)  # noqa: E731
    fill = values(rng, (1,), dtype)
    padded = tuple(int(n) for n in np.array(shape) + pads.sum(1))
    reflected = tuple(int(n) for n in np.array(shape) + mirrored.sum(1))
    sliced = tuple(len(range(*span)) for span in zip(begins, ends, steps, strict=True))
    gathered = (*shape[:axis], 2, 3, *shape[axis + 1 :])
    tiled = tuple(int(n) for n in np.array(shape) * repeats)
    flat = (int(np.prod(shape)),)
    none: set[int] = set()
    return {
        "RESHAPE": (([x, i32(flat)], {1}, [flat], dtype, None), 1),
        "TRANSPOSE": (([x, i32(order)], {1}, [x.transpose(order).shape], dtype, schema.TransposeOptionsT()), 1),
        "STRIDED_SLICE": (
            ([x, i32(begins), i32(ends), i32(steps)], {1, 2, 3}, [sliced], dtype, schema.StridedSliceOptionsT()), 1,
        ),
        "REVERSE_V2": (([x, i32([axis])], {1}, [shape], dtype, schema.ReverseV2OptionsT()), 1),
        "TILE": (([x, i32(repeats)], {1}, [tiled], dtype, schema.TileOptionsT()), 1),
        "BROADCAST_TO": (([x, i32(spread)], {1}, [spread], dtype, schema.BroadcastToOptionsT()), 2),
        "SPACE_TO_DEPTH": (([small], none, [(2, 3, 2, 12)], dtype, block), 1),
        "DEPTH_TO_SPACE": (([large], none, [(2, 6, 4, 3)], dtype, unblock), 1),
        "CONCATENATION": (([x, x, values(rng, wide, dtype)], none, [cut(2 * shape[axis] + 5)], dtype, join), 1),
        "SPLIT": (([i32(axis), np.concatenate([x, x], axis)], {0}, [shape, shape], dtype, split), 1),
        "SPLIT_V": (
            ([np.concatenate([x, values(rng, wide, dtype)], axis), i32([shape[axis], 5]), i32(axis)], {1, 2},
             [shape, wide], dtype, parts), 1,
        ),
        "PAD": (([x, i32(pads)], {1}, [padded], dtype, schema.PadOptionsT()), 1),
        "PADV2": (([x, i32(pads), fill], {1, 2}, [padded], dtype, schema.PadV2OptionsT()), 1),
        "MIRROR_PAD": (([x, i32(mirrored)], {1}, [reflected], dtype, reflect), 1),
        "GATHER": (([x, i32(indices)], {1}, [gathered], dtype, gather), 1),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("seed", range(4))
def test_moves(dtype: str, seed: int) -> None:
    for name, (case, version) in move_cases(np.random.default_rng(seed), dtype).items():
        assert_litert_s(*file(getattr(BuiltinOperator, name), case, version))


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_gathering_by_computed_indices(dtype: str, axis: int) -> None:
    rng = np.random.default_rng(7)
    x = values(rng, (3, 5, 4, 6), dtype)
    options = schema.GatherOptionsT()
    options.axis = axis
    for chosen in ((), (4,), (2, 3)):
        indices = rng.integers(0, x.shape[axis], chosen).astype(np.int32)
        shape = (*x.shape[:axis], *chosen, *x.shape[axis + 1 :])
        version = 3 if dtype == "bool" else 1
        assert_litert_s(*file(BuiltinOperator.GATHER, ([x, indices], set(), [shape], dtype, options), version))


def test_a_computed_index_out_of_range_reads_nothing_else() -> None:
    x, indices = np.arange(6, dtype=np.float32), np.array([-7, 5, 99], np.int32)
    case: Case = ([x, indices], set(), [(3,)], "float32", schema.GatherOptionsT())
    content, inputs = file(BuiltinOperator.GATHER, case)
    np.testing.assert_array_equal(InterpreterRunner(content).run(inputs)[0], [0, 5, 5])


@pytest.mark.parametrize("options_class", [schema.ResizeBilinearOptionsT, schema.ResizeNearestNeighborOptionsT])
@pytest.mark.parametrize(("align", "half"), [(False, False), (False, True), (True, False)])
def test_resizing(options_class: Callable[[], object], align: bool, half: bool) -> None:
    rng = np.random.default_rng(6)
    bilinear = options_class is schema.ResizeBilinearOptionsT
    builtin = BuiltinOperator.RESIZE_BILINEAR if bilinear else BuiltinOperator.RESIZE_NEAREST_NEIGHBOR
    for _ in range(4):
        x, size = floats(rng, (2, *shape_of(rng, 2, 9), 5)), shape_of(rng, 2, 15)
        options = options_class()
        options.alignCorners, options.halfPixelCenters = align, half
        case: Case = ([x, np.array(size, np.int32)], {1}, [(2, *size, 5)], "float32", options)
        assert_litert_s(*file(builtin, case, 3))


@pytest.mark.parametrize("name", ["ARG_MAX", "ARG_MIN"])
def test_arguments(name: str) -> None:
    rng = np.random.default_rng(7)
    for axis in range(3):
        x = values(rng, (4, 5, 6), "int32").astype(np.float32)  # with equal numbers
        options = schema.ArgMaxOptionsT() if name == "ARG_MAX" else schema.ArgMinOptionsT()
        options.outputType = schema.TensorType.INT32
        shape = tuple(size for index, size in enumerate(x.shape) if index != axis)
        case: Case = ([x, np.array(axis, np.int32)], {1}, [shape], "int32", options)
        assert_litert_s(*file(getattr(BuiltinOperator, name), case))


def test_choices_and_casts() -> None:
    rng = np.random.default_rng(8)
    for dtype in ("float32", "int32", "int8", "bool"):
        shapes, whole = broadcasting(rng, 3)
        arrays = [values(rng, shapes[0], "bool"), *(values(rng, shape, dtype) for shape in shapes[1:])]
        assert_litert_s(*file(BuiltinOperator.SELECT_V2, (arrays, set(), [whole], dtype, schema.SelectV2OptionsT())))
        for target in ("float32", "int32", "int8", "bool"):
            if target == dtype:
                continue
            x = values(rng, (3, 7), dtype) * (np.float32(3.7) if dtype == "float32" else 1)
            case: Case = ([x.astype(dtype)], set(), [x.shape], target, schema.CastOptionsT())
            assert_litert_s(*file(BuiltinOperator.CAST, case))


def test_float16_constants_are_widened_exactly() -> None:
    bits = np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x3C00, 0xC248, 0x7BFF, 0x7C00, 0xFC00], np.uint16)
    halves = bits.view(np.float16)
    writer = ModelWriter("test")
    x = writer.tensor("x", halves.shape, np.float32)
    wide, y = writer.tensor("wide", halves.shape, np.float32), writer.tensor("y", halves.shape, np.float32)
    constant = writer.constant("half", halves)
    writer.operator(BuiltinOperator.DEQUANTIZE, [constant], [wide], schema.DequantizeOptionsT(), 3)
    writer.operator(BuiltinOperator.MUL, [x, wide], [y], schema.MulOptionsT())
    content = writer.finish([x], [y], ["x"], ["y"])
    (found,) = InterpreterRunner(content).run([np.full(halves.shape, 4096, np.float32)])
    np.testing.assert_array_equal(found, 4096 * halves.astype(np.float32))


@pytest.mark.parametrize(("dtype", "zero_point"), [("uint8", 0), ("uint8", 131), ("int8", -128), ("int8", 5)])
@pytest.mark.parametrize("scale", [1 / 255, 1 / 256, 0.37])
def test_bytes_are_dequantized_and_quantized_as_in_litert(dtype: str, zero_point: int, scale: float) -> None:
    bounds = np.iinfo(dtype)
    stored = np.arange(bounds.min, bounds.max + 1).astype(dtype)
    rng = np.random.default_rng(0)
    near = np.concatenate([scale * (rng.uniform(-300, 300, 400)), [0.0, -0.0, 1e9, -1e9]]).astype(np.float32)
    quantization = Quantization((float(np.float32(scale)),), (zero_point,), 0)
    for builtin, options, x, result in (
        (BuiltinOperator.DEQUANTIZE, schema.DequantizeOptionsT(), stored, "float32"),
        (BuiltinOperator.QUANTIZE, schema.QuantizeOptionsT(), near, dtype),
    ):
        writer = ModelWriter("test")
        read = writer.tensor("x", x.shape, x.dtype, quantization if x.dtype == dtype else None)
        made = writer.tensor("y", x.shape, result, quantization if result == dtype else None)
        writer.operator(builtin, [read], [made], options, 2 if builtin == BuiltinOperator.DEQUANTIZE else 1)
        assert_litert_s(writer.finish([read], [made], ["x"], ["y"]), [x], tolerance=0)


def test_int8_weights_count_as_the_numbers_that_they_stand_for() -> None:
    """LiteRT's hybrid kernels round their input too: by half a step of its range in 255 parts, and an integer zero."""
    rng = np.random.default_rng(9)
    weight, x = rng.integers(-127, 128, (24, 60)).astype(np.int8), floats(rng, (3, 60))
    scales = rng.uniform(0.01, 0.1, 24).astype(np.float32)
    writer = ModelWriter("test")
    given, y = writer.tensor("x", x.shape, np.float32), writer.tensor("y", (3, 24), np.float32)
    filters = writer.constant("w", weight, Quantization(tuple(scales.tolist()), (0,) * 24, 0))
    options = schema.FullyConnectedOptionsT()
    options.asymmetricQuantizeInputs = True
    bias = writer.constant("b", np.zeros(24, np.float32))
    writer.operator(BuiltinOperator.FULLY_CONNECTED, [given, filters, bias], [y], options, 9)
    content = writer.finish([given], [y], ["x"], ["y"])
    (found,) = InterpreterRunner(content).run([x])
    wide = weight * scales[:, None].astype(np.float64)
    np.testing.assert_allclose(found, x @ wide.T, rtol=0, atol=1e-5 * np.abs(x @ wide.T).max())
    step = (np.maximum(x, 0).max(1) - np.minimum(x, 0).min(1)) / 255
    (hybrid,) = LitertRunner(content, delegate=False).run([x])
    assert np.all(np.abs(hybrid - found) <= step[:, None] * np.abs(wide).sum(1) + 1e-4)


def test_an_operator_that_is_not_known_is_named() -> None:
    x = np.ones((1, 4), np.float32)
    content, _ = file(BuiltinOperator.CUMSUM, ([x, np.array(0, np.int32)], {1}, [x.shape], "float32", None))
    with pytest.raises(RuntimeError, match=f"operator 0, of code {BuiltinOperator.CUMSUM}, is not known"):
        InterpreterRunner(content)
    writer = ModelWriter("test")
    given, y = writer.tensor("x", x.shape, np.float32), writer.tensor("y", x.shape, np.float32)
    writer.custom("LceUnheardOf", [given], [y], b"")
    with pytest.raises(RuntimeError, match="operator 0, LceUnheardOf, is not known"):
        InterpreterRunner(writer.finish([given], [y], ["x"], ["y"]))
