"""A factor or divisor that is computed at run time and positive: it keeps the sign of what it scales.

    x ─ Div(c) ─ y        c = k · max|x| > 0        sign(y) = sign(x), and |y| ≤ 1/k

c has fewer elements than x: one for all, or one a row.  It may be 0 only where all of x that it scales is 0, where the
quotient is no number.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of, shape_of

REDUCTIONS = {"ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin", "ReduceSumSquare"}
NORMS = {"ReduceL1", "ReduceL2", "ReduceSumSquare"}
MOVES = {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Tile", "Flatten"}
PARTS = {"Gather", "Slice"}
# Longest walk back from a factor.
MOST_NODES = 16


def positive_factor(node: ir.Node) -> float | None:
    """The bound of |y| where `node` is y = x · c or x / c with such a c as its second input; None where it is not.

    Infinite where nothing bounds it.
    """
    if node.domain != "" or node.op_type not in ("Mul", "Div") or len(node.inputs) != 2:
        return None
    x, factor = node.inputs
    if x is None or factor is None or constant_of(factor) is not None or constant_of(x) is not None:
        return None
    shape, own = shape_of(x), shape_of(factor)
    if shape is None or own is None or shape != shape_of(node.outputs[0]) or np.prod(own) >= np.prod(shape):
        return None
    if not _is_positive(factor, MOST_NODES):
        return None
    share = _share_of_maximum(factor, x) if node.op_type == "Div" else None
    return np.inf if share is None else 1 / share


def is_positive(value: ir.Value | None) -> bool:
    """True where no element is negative, nor 0, but for a mean or maximum of magnitudes that all vanish."""
    return _is_positive(value, MOST_NODES)


def _is_positive(value: ir.Value | None, budget: int, *, strictly: bool = True) -> bool:
    """True where no element is negative; `strictly`: nor 0, but for a mean or maximum of magnitudes that all vanish."""
    array = constant_of(value)
    if array is not None:
        numbers = array.astype(np.float64)
        return bool(np.all(numbers > 0) if strictly else np.all(numbers >= 0))
    node = value.producer() if value is not None else None
    if node is None or node.domain != "" or not budget:
        return False

    def operand(index: int, strict: bool = strictly) -> bool:
        return index < len(node.inputs) and _is_positive(node.inputs[index], budget - 1, strictly=strict)

    operator = node.op_type
    if operator in NORMS:
        return True
    if operator in REDUCTIONS:
        return operand(0, False)
    if operator in MOVES | PARTS or operator == "Sqrt":
        return operand(0)
    if operator == "Mul" and node.inputs[0] is node.inputs[1]:  # a square
        return not strictly
    if operator in ("Mul", "Div"):
        return operand(0) and operand(1)
    if operator in ("Add", "Max", "Sum"):
        parts = range(len(node.inputs))
        if operator == "Max":
            return any(operand(index) for index in parts)
        return all(operand(index, False) for index in parts) and (not strictly or any(operand(i) for i in parts))
    if operator == "Clip":
        return operand(1)
    if operator in ("Exp", "Sigmoid", "Softplus"):
        return True
    return not strictly and operator in ("Abs", "Relu")


def _share_of_maximum(factor: ir.Value, x: ir.Value) -> float | None:
    """The k of a factor that is k · max|x|, the maximum taken over what it scales at least; None where it is not."""
    share, value = 1.0, factor
    for _ in range(MOST_NODES):
        node = value.producer()
        if node is None or node.domain != "":
            return None
        if node.op_type in ("Mul", "Div"):
            index = 0 if constant_of(node.inputs[0]) is not None else 1
            array = constant_of(node.inputs[index])
            if array is None or array.size != 1 or (node.op_type == "Div" and index == 0):
                return None
            number = float(array.reshape(-1)[0])
            share *= number if node.op_type == "Mul" else 1 / number
            following = node.inputs[1 - index]
        elif node.op_type in MOVES and np.prod(shape_of(node.outputs[0]) or (0,)) == 1:
            following = node.inputs[0]
        elif node.op_type == "ReduceMax":
            magnitude = node.inputs[0].producer() if node.inputs[0] is not None else None
            same = magnitude is not None and magnitude.op_type == "Abs" and magnitude.inputs[0] is x
            return share if same and share > 0 else None
        else:
            return None
        if following is None:
            return None
        value = following
    return None
