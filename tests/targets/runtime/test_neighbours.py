"""TensorFlow Lite's operators between LCE's: the delegate takes them, and computes what the stock interpreter does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner, kernels
from bnncc.targets.tflite.bitpack import bitpack, words
from bnncc.targets.tflite.writer import ModelWriter, Tensor
from tests.targets.runtime.graphs import ARITHMETIC, Builtin
from tests.targets.runtime.models import SAME, VALID, quantized

Rng = np.random.Generator
SHAPES = [(1, 5, 7, 13), (1, 40, 37, 64), (2, 9, 8, 300), (3, 1, 1, 33)]


@dataclass
class Case:
    """An operator on x and further inputs, each constant or not."""

    name: str
    x: Array
    others: list[Array] = field(default_factory=list)
    are_constants: bool = True
    x_position: int = 0
    options: object = None
    outputs: int = 1

    def file(self, shapes: list[tuple[int, ...]] | None) -> bytes:
        """The operator alone, `shapes` None; else with signs of its input, and of its outputs of these shapes."""
        writer = ModelWriter("test")
        x = writer.tensor("x", self.x.shape, self.x.dtype)
        others, inputs = [], [x]
        for index, array in enumerate(self.others):
            if self.are_constants:
                others.append(writer.constant(f"c{index}", array))
            else:
                others.append(writer.tensor(f"x{index}", array.shape, array.dtype))
                inputs.append(others[-1])
        operands = [*others[: self.x_position], x, *others[self.x_position :]]
        results = [
            writer.tensor(f"y{index}", shapes[index] if shapes else self.x.shape, self.x.dtype)
            for index in range(self.outputs)
        ]
        if shapes is None:
            writer.operator(getattr(Builtin, self.name), operands, results, self.options)
            return writer.finish(inputs, results, [t.name for t in inputs], [t.name for t in results])
        signs = [quantize(writer, x)]
        writer.operator(getattr(Builtin, self.name), operands, results, self.options)
        signs += [quantize(writer, result) for result in results]
        outputs = [*results, *signs]
        return writer.finish(inputs, outputs, [t.name for t in inputs], [f"o{i}" for i in range(len(outputs))])

    def inputs(self) -> list[Array]:
        return [self.x] if self.are_constants else [self.x, *self.others]


def quantize(writer: ModelWriter, x: Tensor) -> Tensor:
    bits = writer.tensor("bits", (*x.shape[:-1], words(x.shape[-1])), np.int32)
    writer.custom("LceQuantize", [x], [bits], b"")
    return bits


def delegates(runner: LitertRunner) -> int:
    """Partitions of delegates, ours and XNNPACK's."""
    return sum(node["op_name"] == "DELEGATE" for node in runner._interpreter._get_ops_details())


def assert_taken(case: Case, close: float = 0) -> None:
    """The operator is in one partition with the signs in front and behind, and its outputs are the stock ones.

    close: how far they may be from these, as a share of the largest.
    """
    wanted = LitertRunner(case.file(None), delegate=False).run(case.inputs())
    content = case.file([array.shape for array in wanted])
    signs = [bitpack(np.where(array < 0, -1.0, 1.0)) for array in (case.x, *wanted)]
    for kernel in kernels():
        for threads in (1, 3):
            runner = LitertRunner(content, threads, kernel=kernel)
            assert delegates(runner) == 1, case.name
            for found, expected in zip(runner.run(case.inputs()), [*wanted, *signs], strict=True):
                message = f"{case.name} {case.x.shape} {kernel}"
                if close and found.dtype == np.float32:
                    np.testing.assert_allclose(found, expected, 0, close * np.abs(expected).max(), err_msg=message)
                else:
                    np.testing.assert_array_equal(found, expected, message)


def floats(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.normal(size=shape).astype(np.float32)


def operands_of(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes that broadcast to a map's: its own, for each channel, image, pixel, and one number."""
    n, height, width, channels = shape
    return [
        shape, (channels,), (1, 1, 1, channels), (n, 1, 1, channels), (n, height, width, 1), (n, height, 1, channels),
        (n, 1, 1, 1), (), (1,), (1, 1, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("are_constants", [True, False])
def test_arithmetic(name: str, are_constants: bool) -> None:
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        for other in operands_of(shape):
            options = ARITHMETIC[name]()
            if hasattr(options, "fusedActivationFunction"):
                options.fusedActivationFunction = int(rng.integers(4))
            b = floats(rng, other)
            if name == "DIV":
                b = np.where(np.abs(b) < 0.1, np.float32(1), b)
            position = int(rng.integers(2)) if name != "DIV" else 0
            assert_taken(Case(name, floats(rng, shape), [b], are_constants, position, options))


FUNCTIONS = {
    "ABS": schema.AbsOptionsT, "NEG": schema.NegOptionsT, "RELU": None, "RELU6": None, "RELU_N1_TO_1": None,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        make = FUNCTIONS[name]
        assert_taken(Case(name, 4 * floats(rng, shape), options=make() if make else None))


LAST_BITS = 3e-7


def test_gates() -> None:
    rng = np.random.default_rng(10)
    for shape in [*SHAPES, (2, 35)]:
        x = 5 * floats(rng, shape)
        x.flat[:6] = [np.inf, -np.inf, 88.5, -86, 0, -0.0]
        assert_taken(Case("LOGISTIC", x), LAST_BITS)
        assert_taken(Case("HARD_SWISH", 2 * floats(rng, shape), options=schema.HardSwishOptionsT()), LAST_BITS)


def test_means_of_maps() -> None:
    rng = np.random.default_rng(11)
    for shape in [*SHAPES, (2, 1, 1, 5), (1, 5, 3, 32), (1, 4, 4, 100)]:
        for axes, keeps in ([1, 2], True), ([2, 1], False), ([-2, -3], False):
            options = schema.ReducerOptionsT()
            options.keepDims = keeps
            assert_taken(Case("MEAN", 1 + floats(rng, shape), numbers(axes), options=options), 1e-5)


def test_products_with_a_matrix() -> None:
    rng = np.random.default_rng(12)
    for shape, outputs in [((1, 40), 3), ((1, 64), 150), ((7, 33), 1), ((40, 65), 70), ((2, 3, 3, 12), 34)]:
        for depth in {shape[-1], int(np.prod(shape[1:]))}:
            options = schema.FullyConnectedOptionsT()
            options.fusedActivationFunction = int(rng.integers(4))
            options.keepNumDims = depth == shape[-1]
            others = [floats(rng, (outputs, depth)), floats(rng, (outputs,))]
            assert_taken(Case("FULLY_CONNECTED", floats(rng, shape), others, options=options), 1e-5)


def test_slopes() -> None:
    rng = np.random.default_rng(2)
    for shape in SHAPES:
        for slope in [(shape[3],), (1, 1, shape[3]), (1, 1, 1)]:
            assert_taken(Case("PRELU", floats(rng, shape), [floats(rng, slope)]))
        leaky = schema.LeakyReluOptionsT()
        leaky.alpha = 0.3
        assert_taken(Case("LEAKY_RELU", floats(rng, shape), options=leaky))


def numbers(*values: object) -> list[Array]:
    return [np.array(value, np.int32) for value in values]


def values(rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    return floats(rng, shape) if dtype == "float32" else rng.integers(-(2**31), 2**31, shape).astype(np.int32)


def slices(rng: Rng, shape: tuple[int, ...]) -> list[Array]:
    begin = [0, *(int(rng.integers(0, max(1, n // 2))) for n in shape[1:])]
    step = [1, *(int(rng.integers(1, 3)) for _ in shape[1:])]
    return numbers(begin, [-1 if n > 4 else n for n in shape], step)


def with_block(options: Any) -> object:
    options.blockSize = 2
    return options


MOVES: dict[str, Callable[[Rng, tuple[int, ...]], tuple[list[Array], object]]] = {
    "STRIDED_SLICE": lambda rng, shape: (slices(rng, shape), schema.StridedSliceOptionsT()),
    "PAD": lambda rng, shape: (numbers(rng.integers(0, 3, (len(shape), 2))), schema.PadOptionsT()),
    "TRANSPOSE": lambda rng, shape: (numbers(rng.permutation(len(shape))), schema.TransposeOptionsT()),
    "REVERSE_V2": lambda rng, shape: (numbers([int(rng.integers(len(shape)))]), schema.ReverseV2OptionsT()),
    "RESHAPE": lambda _, shape: (numbers([shape[0], -1, 1, shape[3]]), schema.ReshapeOptionsT()),
    "SPACE_TO_DEPTH": lambda *_: ([], with_block(schema.SpaceToDepthOptionsT())),
    "DEPTH_TO_SPACE": lambda *_: ([], with_block(schema.DepthToSpaceOptionsT())),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name: str) -> None:
    rng = np.random.default_rng(3)
    for shape in [(1, 6, 4, 12), (1, 40, 36, 64), (2, 8, 10, 132), (3, 2, 2, 4)]:
        for _ in range(3):
            others, options = MOVES[name](rng, shape)
            assert_taken(Case(name, floats(rng, shape), others, options=options))


@pytest.mark.parametrize("axis", [-1, 3, 1])
def test_splits(axis: int) -> None:
    rng = np.random.default_rng(4)
    for shape in [(1, 6, 7, 12), (1, 36, 35, 64), (2, 8, 10, 132)]:
        split, unequal = schema.SplitOptionsT(), schema.SplitVOptionsT()
        split.numSplits = unequal.numSplits = 2
        x = floats(rng, shape)
        assert_taken(Case("SPLIT", x, numbers(axis), x_position=1, options=split, outputs=2))
        for sizes in ([1, shape[axis] - 1], [-1, 2]):
            assert_taken(Case("SPLIT_V", x, numbers(sizes, axis), options=unequal, outputs=2))


def test_padding_with_a_number() -> None:
    rng = np.random.default_rng(5)
    for shape in SHAPES:
        amounts = rng.integers(0, 3, (4, 2))
        others = [*numbers(amounts), np.array([-np.inf], np.float32)]
        assert_taken(Case("PADV2", floats(rng, shape), others, options=schema.PadV2OptionsT()))


def test_largest_of_windows() -> None:
    rng = np.random.default_rng(6)
    for shape in SHAPES[:3]:
        for _ in range(6):
            options = schema.Pool2DOptionsT()
            options.padding = int(rng.choice([SAME, VALID]))
            options.filterHeight, options.filterWidth = (int(k) for k in rng.integers(1, 4, 2))
            options.strideH, options.strideW = (int(k) for k in rng.integers(1, 4, 2))
            options.fusedActivationFunction = int(rng.integers(4))
            assert_taken(Case("MAX_POOL_2D", floats(rng, shape), options=options))


def words_file(
    name: str, x: Array, others: list[Array], position: int, options: object, shape: tuple[int, ...]
) -> bytes:
    """An operator on words of signs that LceDequantize, on either side, makes the delegate's."""
    writer = ModelWriter("test")
    bits = writer.tensor("x", x.shape, np.int32)
    constants = [writer.constant("c", array) for array in others]
    moved = [writer.tensor("y", shape, np.int32) for _ in range(2 if name == "SPLIT" else 1)]
    before = writer.tensor("before", (*x.shape[:-1], 32 * x.shape[-1]), np.float32)
    writer.custom("LceDequantize", [bits], [before], b"")
    writer.operator(getattr(Builtin, name), [*constants[:position], bits, *constants[position:]], moved, options)
    results = [before]
    for part in moved:
        results.append(writer.tensor("after", (*shape[:-1], 32 * shape[-1]), np.float32))
        writer.custom("LceDequantize", [part], [results[-1]], b"")
    outputs = [*moved, *results]
    return writer.finish([bits], outputs, ["x"], [f"o{i}" for i in range(len(outputs))])


@pytest.mark.parametrize("name", ["SPLIT", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "STRIDED_SLICE"])
def test_words_of_signs_move_as_well(name: str) -> None:
    rng = np.random.default_rng(7)
    for shape in [(1, 6, 4, 4), (1, 40, 38, 8)]:
        x = values(rng, shape, "int32")
        position = 0
        if name == "SPLIT":
            others, options, position = numbers(3), schema.SplitOptionsT(), 1
            options.numSplits = 2
        else:
            others, options = MOVES[name](rng, shape)
        alone = Case(name, x, others, x_position=position, options=options, outputs=2 if name == "SPLIT" else 1)
        wanted = LitertRunner(alone.file(None), delegate=False).run([x])
        runner = LitertRunner(words_file(name, x, others, position, options, wanted[0].shape), 1)
        assert delegates(runner) == 1
        for found, expected in zip(runner.run([x]), wanted, strict=False):
            np.testing.assert_array_equal(found, expected)


def test_a_map_that_grows_or_shrinks_is_computed_anew() -> None:
    rng = np.random.default_rng(8)
    addend = floats(rng, (64,))
    small = Case("ADD", floats(rng, (1, 4, 4, 64)), [addend], options=schema.AddOptionsT())
    runner = LitertRunner(small.file([small.x.shape]), 2)
    for size in [(40, 30), (3, 5), (41, 1)]:
        x = floats(rng, (2, *size, 64))
        runner._interpreter.resize_tensor_input(0, x.shape)
        runner._interpreter.allocate_tensors()
        np.testing.assert_array_equal(runner.run([x])[0], x + addend)


def test_integers_are_the_delegate_s_and_odd_broadcasting_the_interpreter_s() -> None:
    """Broadcasting along an axis in front of one that the operand has."""
    rng = np.random.default_rng(9)
    writer = ModelWriter("test")
    x, y = (quantized(writer, name, (1, 4, 4, 40)) for name in "xy")
    writer.operator(Builtin.ADD, [x, x], [y], schema.AddOptionsT())
    content = writer.finish([x], [y, quantize(writer, y)], ["x"], ["y", "bits"])
    given = rng.integers(-60, 60, (1, 4, 4, 40)).astype(np.int8)
    runner = LitertRunner(content)
    assert delegates(runner) == 1
    found, bits = runner.run([given])
    zero_point = -3
    np.testing.assert_array_equal(found, 2 * given.astype(int) - zero_point)
    np.testing.assert_array_equal(bits, bitpack(np.where(found < zero_point, -1.0, 1.0)))

    case = Case("ADD", floats(rng, (2, 5, 6, 40)), [floats(rng, (1, 5, 1, 40))], options=schema.AddOptionsT())
    found = LitertRunner(case.file([case.x.shape])).run([case.x])[0]
    np.testing.assert_array_equal(found, case.x + case.others[0])
