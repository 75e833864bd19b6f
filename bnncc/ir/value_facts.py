"""What is known of a value's elements from the operators that computed it: is it ±1, can it be exactly zero by
design?
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import WHOLE_NUMBERS_KEY, constant_of
from bnncc.ir.same_elements import share_elements

# Operators that move elements without changing them.
MOVES = {
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Concat", "Gather",
    "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool",
}  # fmt: skip
# Operators that hold the axes, indices and the like of the above in their other inputs.
FIRST_INPUT_ONLY = (MOVES | {"Pad"}) - {"Concat"}
# Operators that yield exactly 0 for a whole range of inputs.
RECTIFIERS = {"Relu", "HardSwish", "HardSigmoid", "ThresholdedRelu", "Shrink", "Round", "Floor", "Ceil", "Cast", "Not"}

# Operators whose result is exactly 0 where their first input (for a reduction or a pool: all of it) is 0.
ZERO_KEEPING = {
    "Sign", "Neg", "Abs", "Sqrt", "Tanh", "Erf", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softsign", "Sin", "Atan",
    "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin",
    "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare", "Pow", "Sinh", "Asinh", "CumSum",
}  # fmt: skip

# Numbers that were learnt are multiples of smaller ones than this alone.
FINEST_DESIGNED = 2.0**-18
# How far `granularity` looks.
MOST_OPERATORS = 24

# How a sum or a scaled value rests where its operands do.
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul,
}  # fmt: skip
# More numbers than this at which a value rests are not told from such as anything may meet.
MOST_RESTING = 64

# A constant with more distinct numbers than this was learnt, not designed.
MOST_DESIGNED = 8


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs of a moving operator that carry elements."""
    given = [value for value in node.inputs if value is not None]
    return given[:1] if node.op_type in FIRST_INPUT_ONLY else given


def reduced_axes(node: ir.Node, rank: int) -> set[int]:
    """The axes that a reduction of a value of so many axes runs over, from 0 on; all where they are computed."""
    if "axes" in node.attributes:
        return {axis % rank for axis in node.attributes["axes"].as_ints()}
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is not None and axes.size:
        return {int(axis) % rank for axis in axes.reshape(-1)}
    return set() if node.attributes.get_int("noop_with_empty_axes", 0) == 1 else set(range(rank))


def is_binary(value: ir.Value) -> bool:
    """True where every element is +1 or -1: the output of bnncc's Sign, BinaryConvSign or BinaryMaxPool, moved
    about, padded with ±1, pooled by maximum or concatenated, or such a constant."""
    array = constant_of(value)
    if array is not None:
        return bool(np.all(np.abs(array) == 1)) and array.dtype == np.float32
    node = value.producer()
    if node is None:
        return False
    if ops.yields_signs(node):
        return True
    if node.domain == "" and node.op_type == "Pad":
        return _pads_with_signs(node) and is_binary(data_inputs(node)[0])
    return node.domain == "" and node.op_type in MOVES and all(is_binary(source) for source in data_inputs(node))


def has_structural_zeros(value: ir.Value) -> bool:
    """True where an element may be exactly 0 by design, not by chance: behind a ReLU, a zero pad, a clip at 0, a step.

    So may a pixel, where the graph says that its inputs are data.  The sign of such an element is 0 in PyTorch, and no
    bit says that.
    """
    array = constant_of(value)
    if array is not None:
        return bool(np.any(array == 0))
    node = value.producer()
    if node is None:
        return holds_whole_numbers(value)
    if ops.is_binary_conv(node) and ops.sum_bounds(node) != ops.UNBOUNDED:
        bias = constant_of(node.inputs[3])
        return bias is None or bool(np.any(bias == 0))
    if node.domain != "":
        return False
    if node.op_type in MOVES:
        return any(has_structural_zeros(source) for source in data_inputs(node))
    if node.op_type in ZERO_KEEPING:
        return _first(node)
    if node.op_type in RECTIFIERS:
        return True
    if node.op_type == "MatMul" and not any(map(_is_known, node.inputs)):
        # No weights were trained to keep such a sum from 0, as of the ±1 and {0, 1} of binary attention.
        return granularity(value) is not None
    if node.op_type == "Clip":
        return any(np.any(constant_of(bound) == 0) for bound in node.inputs[1:] if bound is not None) or _first(node)
    if node.op_type in ("PRelu", "LeakyRelu"):
        slope = constant_of(node.inputs[1]) if node.op_type == "PRelu" else _alpha(node)
        return slope is None or bool(np.any(slope == 0)) or _first(node)
    if node.op_type == "Pad":
        mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
        fill = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        return (mode == "constant" and (fill is None or bool(np.any(fill == 0)))) or _first(node)
    if node.op_type in ("Mul", "Div", "Max", "Min", "Where"):
        return any(has_structural_zeros(source) for source in node.inputs if source is not None)
    if node.op_type in ("Add", "Sub"):
        if all(has_structural_zeros(source) for source in node.inputs if source is not None) or cancels(value):
            return True
        return not any(map(_is_known, node.inputs)) and 0.0 in resting_numbers(value)
    return False


def resting_numbers(value: ir.Value) -> frozenset[float]:
    """The numbers at which a value rests for a whole range of inputs: a clip at its bounds, a sum of clips at the sums
    of these.  Empty where none is known, or too many.
    """
    return _resting(value, MOST_OPERATORS, {})


def _resting(
    value: ir.Value | None, budget: int, known: dict[ir.Value | None, frozenset[float]]
) -> frozenset[float]:  # fmt: skip
    if value not in known:
        array, node = constant_of(value), value.producer() if value is not None else None
        found = frozenset[float]()
        if array is not None and array.size <= MOST_RESTING:
            found = frozenset(map(float, array.reshape(-1)))
        elif array is None and node is not None and node.domain == "" and budget > 0:
            found = _resting_behind(node, lambda operand: _resting(operand, budget - 1, known))
        known[value] = found if len(found) <= MOST_RESTING else frozenset()
    return known[value]


def _resting_behind(node: ir.Node, of: Callable[[ir.Value | None], frozenset[float]]) -> frozenset[float]:
    """What a node's result rests at, given what its operands do."""
    if node.op_type == "Relu":
        return frozenset({0.0}) | {number for number in of(node.inputs[0]) if number > 0}
    if node.op_type == "Clip":
        bounds = [number for bound in node.inputs[1:] for number in of(bound) if np.isfinite(number)]
        inside = {min(max(number, min(bounds)), max(bounds)) for number in of(node.inputs[0]) if bounds}
        return frozenset(bounds) | inside if len(bounds) == 2 else frozenset(bounds)
    if node.op_type in MOVES:
        return frozenset[float]().union(*map(of, data_inputs(node)))
    if node.op_type in ("Max", "Min", "Where"):
        return frozenset[float]().union(*map(of, node.inputs[node.op_type == "Where" :]))
    if node.op_type == "Pad":
        is_filled = "mode" not in node.attributes or node.attributes["mode"].as_string() == "constant"
        fill = node.inputs[2] if len(node.inputs) > 2 else None
        added = frozenset({0.0}) if fill is None else of(fill)
        return of(node.inputs[0]) | added if is_filled else of(node.inputs[0])
    if node.op_type in _ARITHMETIC and any(not _is_known(operand) for operand in node.inputs):
        left, right = map(of, node.inputs)
        return frozenset(_ARITHMETIC[node.op_type](a, b) for a in left for b in right)
    return frozenset()


def _is_known(value: ir.Value | None) -> bool:
    return constant_of(value) is not None


def is_lowest_bit(node: ir.Node) -> bool:
    """True for what is left of an integer divided by 2, which is 0 or 1."""
    if node.domain != "" or node.op_type != "Mod" or node.attributes.get_int("fmod", 0) != 0:
        return False
    dtype, divisor = node.inputs[0].dtype if node.inputs[0] is not None else None, constant_of(node.inputs[1])
    return dtype is not None and not dtype.is_floating_point() and divisor is not None and bool(np.all(divisor == 2))


def cancels(value: ir.Value) -> bool:
    """True for a difference of values that hold the same element in a place, as x - max(x)."""
    node = value.producer()
    if node is None or node.domain != "" or node.op_type != "Sub":
        return False
    left, right = node.inputs
    return left is not None and right is not None and share_elements(left, right)


def mark_inputs(graph: ir.Graph) -> None:
    """Let the passes know that an element of an input may be any whole number, above all 0, by design: pixels are."""
    for value in graph.inputs:
        value.metadata_props[WHOLE_NUMBERS_KEY] = "1"


def holds_whole_numbers(value: ir.Value) -> bool:
    """True for the inputs of a graph that `mark_inputs` has marked."""
    return WHOLE_NUMBERS_KEY in value.metadata_props


def _pads_with_signs(node: ir.Node) -> bool:
    """True where what a Pad adds is +1, -1 or a copy of what is there."""
    if "mode" in node.attributes and node.attributes["mode"].as_string() != "constant":
        return True
    fill = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    return fill is not None and bool(np.all(np.abs(fill) == 1))


def _first(node: ir.Node) -> bool:
    return node.inputs[0] is not None and has_structural_zeros(node.inputs[0])


def _alpha(node: ir.Node) -> npt.NDArray[np.float64]:
    return np.asarray(node.attributes["alpha"].as_float() if "alpha" in node.attributes else 0.01)


def may_equal_by_design(value: ir.Value, numbers: npt.ArrayLike) -> bool:
    """True where an element may be exactly one of `numbers` by design: the bound of a clip, the fill of a pad, a
    rounded number, less or more a constant; for 0 also as `has_structural_zeros`.
    """
    wanted = np.asarray(numbers, np.float64).reshape(-1)
    array = constant_of(value)
    if array is not None:
        # A float32 is met by what rounds to it.
        return bool(np.isin(array, wanted.astype(array.dtype) if array.dtype.kind == "f" else wanted).any())
    if np.any(wanted == 0) and has_structural_zeros(value):
        return True
    whole = bool(np.any(wanted == np.floor(wanted)))
    node = value.producer()
    if node is None:
        return whole and holds_whole_numbers(value)
    if ops.is_sign(node):
        return bool(np.any(np.abs(wanted) == 1))
    if node.domain != "":
        return False
    if node.op_type in MOVES:
        return any(may_equal_by_design(source, wanted) for source in data_inputs(node))
    if node.op_type in ("Sign", "Round", "Floor", "Ceil", "Cast", "HardSigmoid"):
        return whole
    if node.op_type in ("Add", "Sub") and constant_of(node.inputs[1]) is not None and node.inputs[0] is not None:
        amounts = np.unique(np.asarray(constant_of(node.inputs[1]), np.float64)) * (1 if node.op_type == "Add" else -1)
        if amounts.size > MOST_DESIGNED:
            # Learnt shifts, one a channel: what they make of a bound or a fill is no number that anybody chose.
            return bool(np.isin(wanted, amounts).any()) and has_structural_zeros(node.inputs[0])
        return may_equal_by_design(node.inputs[0], wanted[:, None] - amounts)
    if node.op_type in ("Mul", "BatchNormalization") and node.inputs[0] is not None:
        affine = _channel_affine(node)
        if affine is None:
            return False
        factor, shift = affine
        with np.errstate(divide="ignore", invalid="ignore"):
            before = np.unique((wanted[:, None] - shift) / factor)
        return may_equal_by_design(node.inputs[0], before[np.isfinite(before)])
    if node.op_type in ("Clip", "Pad", "Max", "Min", "Where"):
        sources = list(node.inputs)
        if node.op_type == "Pad":
            del sources[1]  # how much it pads
        return any(may_equal_by_design(source, wanted) for source in sources if source is not None)
    return False


def _channel_affine(node: ir.Node) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """(factor, shift), float64 [C] or [1], of a Mul by a constant or a batch norm; None where they are not known."""
    if node.op_type != "Mul":
        return batch_norm_affine(node)
    array = constant_of(node.inputs[1])
    return None if array is None else (array.astype(np.float64).reshape(-1), np.zeros(1))


def batch_norm_affine(node: ir.Node) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """(factor, shift), float64 [C], of a BatchNormalization in inference, γ·(x - μ) / √(σ² + ε) + β; None where a
    parameter is no constant.
    """
    parameters = [constant_of(value) for value in node.inputs[1:5]]
    training = "training_mode" in node.attributes and node.attributes["training_mode"].as_int() != 0
    if training or any(array is None for array in parameters):
        return None
    gamma, beta, mean, variance = (array.astype(np.float64) for array in parameters if array is not None)
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    factor = gamma / np.sqrt(variance + epsilon)
    return factor, beta - mean * factor


def granularity(value: ir.Value) -> float | None:
    """A power of two of which all elements of a float value are multiples by design: 1 behind a rounding and in sums of
    ±1, ¼ in those scaled by ¼; None where there is none that would be noticed.
    """
    found = _Grains().of(value, MOST_OPERATORS)
    if found is None or found < FINEST_DESIGNED:
        return None
    return found if np.isfinite(found) else 1.0


class _Grains:
    """`granularity` of one value after the other, each once."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, float | None] = {}

    def of(self, value: ir.Value | None, budget: int) -> float | None:
        if value is None:
            return None
        if value not in self._known:
            array, node = constant_of(value), value.producer()
            if array is not None:
                self._known[value] = _grain_of(array)
            else:
                self._known[value] = None if node is None or not budget else self._computed(node, budget)
        return self._known[value]

    def _computed(self, node: ir.Node, budget: int) -> float | None:
        if ops.yields_signs(node) or node.op_type in ("Sign", "Round", "Floor", "Ceil"):
            return 1.0
        if ops.is_binary_conv(node):
            return _finest(self.of(one, budget - 1) for one in node.inputs[2:4])  # the sums are integers
        if node.domain != "":
            return None
        if node.op_type == "Cast":
            source = node.inputs[0]
            known = source.dtype if source is not None else None
            return self.of(source, budget - 1) if known is None or known.is_floating_point() else 1.0
        if node.op_type in MOVES or node.op_type in ("Relu", "Neg", "Abs"):
            return _finest(self.of(source, budget - 1) for source in data_inputs(node))
        if node.op_type == "Where":
            return _finest(self.of(source, budget - 1) for source in node.inputs[1:])
        if node.op_type in ("Add", "Sub", "Max", "Min", "Clip"):
            return _finest(self.of(source, budget - 1) for source in node.inputs if source is not None)
        if node.op_type == "Pad":
            return _finest(self.of(one, budget - 1) for one in (node.inputs[0], *node.inputs[2:3]) if one is not None)
        if node.op_type == "Resize" and "mode" in node.attributes and node.attributes["mode"].as_string() != "nearest":
            return self._interpolated(node, budget)
        if node.op_type in ("PRelu", "LeakyRelu"):
            slope = self.of(node.inputs[1], budget - 1) if node.op_type == "PRelu" else _grain_of(_alpha(node))
            grain = self.of(node.inputs[0], budget - 1)
            return None if grain is None or slope is None else grain * min(1.0, slope)
        if node.op_type == "Div":
            divisor, grain = constant_of(node.inputs[1]), self.of(node.inputs[0], budget - 1)
            inverse = _grain_of(1 / divisor.astype(np.float64)) if divisor is not None and np.all(divisor) else None
            return None if grain is None or inverse is None else grain * inverse
        if node.op_type in ("Resize", "ReduceSum", "ReduceMax", "ReduceMin"):
            return self.of(node.inputs[0], budget - 1)
        if node.op_type == "AveragePool":
            padded = "pads" in node.attributes and any(node.attributes["pads"].as_ints())
            grain = None if padded else self.of(node.inputs[0], budget - 1)
            count = float(np.prod(node.attributes["kernel_shape"].as_ints()))
            return None if grain is None or np.frexp(count)[0] != 0.5 else grain / count
        if node.op_type == "BatchNormalization":
            affine, grain = batch_norm_affine(node), self.of(node.inputs[0], budget - 1)
            if affine is None or grain is None:
                return None
            factor, shift = map(_grain_of, affine)
            return None if factor is None else _finest([factor * grain, shift])
        if node.op_type in ("Mul", "Conv", "MatMul"):
            first = self.of(node.inputs[0], budget - 1)
            second = self.of(node.inputs[1], budget - 1) if first is not None else None
            if first is None or second is None:
                return None
            return _finest([first * second, *(self.of(bias, budget - 1) for bias in node.inputs[2:])])
        return None

    def _interpolated(self, node: ir.Node, budget: int) -> float | None:
        """Of a linear Resize to twice the size: ¼ and ¾ of neighbours along each axis that grows."""
        scales = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        mode = node.attributes.get("coordinate_transformation_mode")
        if (
            scales is None
            or not np.all((scales == 1) | (scales == 2))
            or node.attributes["mode"].as_string() != "linear"
        ):
            return None
        if mode is not None and mode.as_string() not in ("half_pixel", "pytorch_half_pixel"):
            return None
        grain = self.of(node.inputs[0], budget - 1)
        return None if grain is None else grain / 4.0 ** int(np.count_nonzero(scales == 2))


def _finest(grains: Iterable[float | None]) -> float | None:
    found = list[float]()
    for grain in grains:
        if grain is None:
            return None
        found.append(grain)
    return min(found, default=None)


def _grain_of(array: npt.NDArray[np.generic]) -> float | None:
    """The largest power of two of which all numbers are multiples: infinite where all are 0, None where one is none."""
    if array.dtype.kind not in "fiub" or not np.all(np.isfinite(array)):
        return None
    fraction, exponent = np.frexp(array.astype(np.float64).reshape(-1))
    digits = np.ldexp(fraction, 53).astype(np.int64)
    lowest = np.ldexp((digits & -digits).astype(np.float64), exponent - 53)[digits != 0]
    return float(lowest.min(initial=np.inf))
