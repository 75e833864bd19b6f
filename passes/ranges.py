"""Between which numbers a value lies, whatever the network's inputs are, and which whole numbers it can be.

    x ─ Tanh ─ a ─ Round ─ y        a in [-1, 1], y in {-1, 0, 1}

Operators round monotonically, so the bounds, rounded as they are, hold to the bit; what adds up many numbers may be off
by the rounding of each.  A NaN is beyond all of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import MOVES, data_inputs, is_binary, is_lowest_bit, reduced_axes

# The least and the largest number.
Range = tuple[float, float]

# Longest walk back.
MOST_NODES = 24
ANY: Range = (-math.inf, math.inf)
# What sums of many numbers may be off by, relative to the largest.
SUMMED = 1e-4

BOUNDED: dict[str, Range] = {
    "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Erf": (-1.0, 1.0),
    "Softsign": (-1.0, 1.0), "Sin": (-1.0, 1.0), "Cos": (-1.0, 1.0), "Exp": (0.0, math.inf),
    "Softplus": (0.0, math.inf), "ReduceL1": (0.0, math.inf), "ReduceL2": (0.0, math.inf), "Sqrt": (0.0, math.inf),
}  # fmt: skip
# These yield one of the numbers that they read.
CHOOSING = {"ReduceMax", "ReduceMin", "GlobalMaxPool"}
AVERAGING = {"ReduceMean", "AveragePool", "GlobalAveragePool"}
# Resize is none of these where it is cubic, which overshoots.
INTERPOLATING = ("nearest", "linear")
ROUNDED: dict[str, Callable[[float], float]] = {"Round": np.rint, "Floor": np.floor, "Ceil": np.ceil}


def range_of(value: ir.Value | None, budget: int = MOST_NODES) -> Range:
    """(least, largest) that an element of `value` can be, infinite where nothing is known."""
    return _range(value, budget, {})


def _range(value: ir.Value | None, budget: int, known: dict[ir.Value, tuple[int, Range]]) -> Range:
    """The same; known: what was found so far, and with which budget: a value that many read is looked at once."""
    array = constant_of(value)
    if array is not None:
        numbers = array.astype(np.float64)
        return (float(numbers.min()), float(numbers.max())) if array.size and np.isfinite(numbers).all() else ANY
    node = value.producer() if value is not None else None
    if value is None or node is None or not budget:
        return ANY
    if is_binary(value) or ops.is_sign(node):
        return -1.0, 1.0
    if value.dtype == ir.DataType.BOOL or is_lowest_bit(node):
        return 0.0, 1.0
    if node.domain != "":
        return ANY
    if value not in known or known[value][0] < budget:
        least, largest = _behind(node, [_range(one, budget - 1, known) for one in node.inputs])
        if value.dtype == ir.DataType.FLOAT:
            with np.errstate(over="ignore"):
                least, largest = float(np.float32(least)), float(np.float32(largest))
        known[value] = budget, ((least, largest) if least <= largest else ANY)
    return known[value][1]


def whole_numbers(value: ir.Value | None, budget: int = MOST_NODES) -> tuple[int, int] | None:
    """(first, last) of the whole numbers that an element of `value` can be; None where it is another, or unbounded."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.domain != "" or not budget:
        return None
    if value.dtype == ir.DataType.BOOL or is_lowest_bit(node):
        return 0, 1
    if node.op_type in MOVES:
        return _union([whole_numbers(source, budget - 1) for source in data_inputs(node)])
    if node.op_type == "Cast" and (known := whole_numbers(node.inputs[0], budget - 1)) is not None:
        return known
    if node.op_type in ("ArgMax", "ArgMin"):
        shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
        return None if shape is None else (0, shape[node.attributes.get_int("axis", 0)] - 1)
    if (divisor := _divisor(node)) is not None:
        return 0, divisor - 1
    is_integer = value.dtype is not None and not value.dtype.is_floating_point()
    if node.op_type not in ROUNDED and not (node.op_type == "Cast" and is_integer):
        return None
    rounded = ROUNDED.get(node.op_type, np.trunc)
    ends = [float(rounded(end)) for end in range_of(node.inputs[0], budget - 1)]
    return (int(ends[0]), int(ends[1])) if np.isfinite(ends).all() else None


def _divisor(node: ir.Node) -> int | None:
    """The power of two m of a - floor(a / m) · m, a whole number; None of others."""
    product = node.inputs[1].producer() if node.op_type == "Sub" and node.inputs[1] is not None else None
    if product is None or product.op_type != "Mul":
        return None
    for factor, other in (product.inputs, product.inputs[::-1]):
        floor, array = other.producer() if other is not None else None, constant_of(factor)
        if floor is None or floor.op_type != "Floor" or array is None or array.size != 1:
            continue
        divisor, share = float(array.item()), floor.inputs[0].producer() if floor.inputs[0] is not None else None
        if divisor < 1 or math.frexp(divisor)[0] != 0.5 or share is None or share.inputs[0] is not node.inputs[0]:
            return None
        by = constant_of(share.inputs[1]) if len(share.inputs) == 2 else None
        if by is None or by.size != 1:
            return None
        wanted = {"Div": divisor, "Mul": 1 / divisor}.get(share.op_type)
        source = node.inputs[0].producer() if node.inputs[0] is not None else None
        is_whole = source is not None and source.op_type in ROUNDED
        return int(divisor) if is_whole and float(by.item()) == wanted else None
    return None


def is_never_negative(value: ir.Value) -> bool:
    """True where no element is below 0."""
    return range_of(value)[0] >= 0


def _union(ranges: Sequence[tuple[int, int] | None]) -> tuple[int, int] | None:
    known = [one for one in ranges if one is not None]
    if not known or len(known) < len(ranges):
        return None
    return min(first for first, _ in known), max(last for _, last in known)


def _behind(node: ir.Node, operands: Sequence[Range]) -> Range:
    """The range of a node's result, given those of its operands."""
    kind = node.op_type
    if kind in BOUNDED:
        return BOUNDED[kind]
    if kind in MOVES:
        used = [operands[list(node.inputs).index(source)] for source in data_inputs(node)]
        return min(low for low, _ in used), max(high for _, high in used)
    if kind in CHOOSING or (kind == "Resize" and node.attributes.get_string("mode", "nearest") in INTERPOLATING):
        return operands[0]
    if kind == "Cast":
        return operands[0]
    if kind in AVERAGING:
        low, high = operands[0]
        slack = SUMMED * max(abs(low), abs(high))
        # Numbers of one sign add up to one of it.
        return (low - slack if low < 0 else low * (1 - SUMMED)), (high + slack if high > 0 else high * (1 - SUMMED))
    if kind == "ReduceSum":
        low, high = operands[0]
        return (0.0 if low >= 0 else -math.inf), (0.0 if high <= 0 else math.inf)
    if kind in ROUNDED:
        return float(ROUNDED[kind](operands[0][0])), float(ROUNDED[kind](operands[0][1]))
    if kind == "Relu":
        return max(operands[0][0], 0.0), max(operands[0][1], 0.0)
    if kind == "Sign":
        return float(np.sign(operands[0][0])), float(np.sign(operands[0][1]))
    if kind == "Abs":
        low, high = operands[0]
        return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
    if kind == "Neg":
        return -operands[0][1], -operands[0][0]
    if kind == "Pad":
        fill = operands[2] if len(operands) > 2 and node.inputs[2] is not None else (0.0, 0.0)
        return min(operands[0][0], fill[0]), max(operands[0][1], fill[1])
    if kind == "Where":
        return min(operands[1][0], operands[2][0]), max(operands[1][1], operands[2][1])
    if kind == "Clip":
        return _clip(node, operands)
    if kind in ("Max", "Min"):
        choose = max if kind == "Max" else min
        return choose(low for low, _ in operands), choose(high for _, high in operands)
    if kind == "Div" and _is_share_of_span(node):
        return 0.0, 1.0
    if kind in ("Add", "Sub", "Mul", "Div") and len(operands) == 2:
        return _arithmetic(node, operands[0], operands[1])
    return ANY


def _clip(node: ir.Node, operands: Sequence[Range]) -> Range:
    low, high = operands[0]
    if len(operands) > 1 and node.inputs[1] is not None:
        low, high = max(low, operands[1][0]), max(high, operands[1][1])
    if len(operands) > 2 and node.inputs[2] is not None:
        low, high = min(low, operands[2][0]), min(high, operands[2][1])
    return low, high


def _arithmetic(node: ir.Node, a: Range, b: Range) -> Range:
    if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:  # a square
        return 0.0, max(a[0] * a[0], a[1] * a[1])
    if node.op_type in ("Add", "Sub"):
        return (a[0] + b[0], a[1] + b[1]) if node.op_type == "Add" else (a[0] - b[1], a[1] - b[0])
    if node.op_type == "Div" and b[0] <= 0 <= b[1]:
        return ANY
    with np.errstate(all="ignore"):
        ends = [
            0.0
            if node.op_type == "Mul" and 0 in (x, y)
            else float(np.multiply(x, y) if node.op_type == "Mul" else x / y)
            for x in a
            for y in b
        ]
    return ANY if np.isnan(ends).any() else (min(ends), max(ends))


def _is_share_of_span(node: ir.Node) -> bool:
    """True for (x - min(x)) / (max(x) - min(x)), the divisor not less than that."""
    above, below = (operand.producer() if operand is not None else None for operand in node.inputs)
    if below is not None and below.op_type in ("Add", "Max", "Clip"):  # of an epsilon
        rest = [one for one in below.inputs if one is not None and constant_of(one) is None]
        given = [array for one in below.inputs if (array := constant_of(one)) is not None]
        if len(rest) != 1 or (below.op_type == "Add" and any(array.min(initial=0) < 0 for array in given)):
            return False
        if below.op_type == "Clip" and len(below.inputs) > 2 and below.inputs[2] is not None:
            return False
        below = rest[0].producer()
    if above is None or below is None or above.op_type != "Sub" or below.op_type != "Sub":
        return False
    (x, least), (largest, subtracted) = above.inputs, below.inputs
    return (
        x is not None
        and least is not None
        and least is subtracted
        and _is_reduced(least, "ReduceMin", x)
        and largest is not None
        and _is_reduced(largest, "ReduceMax", x)
    )


def _is_reduced(value: ir.Value, operator: str, x: ir.Value) -> bool:
    """True for what the reduction of `x` yields, reshaped or not, that has in each place what those of `x` there are
    reduced to: any other way the elements of `x` are compared with what other ones are reduced to.
    """
    node = value.producer()
    while node is not None and node.domain == "" and node.op_type in RESHAPES and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.domain != "" or node.op_type != operator or node.inputs[0] is None:
        return False
    source: ir.Value | None = node.inputs[0]
    order_is_kept = True
    while source is not None and source is not x:
        moved = source.producer()
        if moved is None or moved.domain != "" or moved.op_type not in (*RESHAPES, "Transpose"):
            return False
        order_is_kept &= moved.op_type != "Transpose"
        source = moved.inputs[0]
    own, read, shape = shape_of(x), shape_of(node.inputs[0]), shape_of(value)
    if source is None or own is None or read is None or shape is None or len(shape) > len(own):
        return False
    shape = (*(1,) * (len(own) - len(shape)), *shape)
    if set(shape) <= {1}:
        return True  # the one of all
    axes = reduced_axes(node, len(read))
    if node.inputs[0] is x:
        return shape == tuple(1 if axis in axes else size for axis, size in enumerate(own))
    # Rows of a map that was reshaped are those of its first axes.
    kept = len(read) - len(axes)
    leading = max(axis + 1 for axis, size in enumerate(shape) if size != 1)
    of_rows = axes == set(range(kept, len(read))) and math.prod(read[:kept]) == math.prod(own[:leading])
    return order_is_kept and of_rows and shape[:leading] == own[:leading]
