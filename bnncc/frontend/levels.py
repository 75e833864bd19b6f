"""Which two values a value of a traced graph takes, whatever the input is."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import known_array
from bnncc.ir.value_facts import MOVES, data_inputs

# How far back a value is looked at.
DEPTH = 20

INTEGERS = {ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64}
SIGNED = INTEGERS | {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}

Levels = tuple[float, float]

_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
}


def levels(value: ir.Value | None, depth: int = DEPTH) -> Levels | None:
    """(lower, upper) of a value that has no others; a boolean's are 0 and 1.  None where that is not known."""
    if value is None or not depth:
        return None
    if value.dtype is ir.DataType.BOOL:
        return 0, 1
    if is_signs(value, depth):
        return -1, 1
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Where":
        found = tuple(map(number, node.inputs[1:]))
    elif node.op_type in MOVES:
        several = {levels(source, depth - 1) for source in data_inputs(node)}
        found = several.pop() or () if len(several) == 1 else ()
    else:
        found = of_boolean(value) or ()
    numbers = [one for one in found if one is not None]
    return (min(numbers), max(numbers)) if len(set(numbers)) == 2 else None


def is_signs(value: ir.Value | None, depth: int = DEPTH) -> bool:
    """True for what is ±1: a choice between them, moved and padded; a torch.sign may be 0."""
    if value is None or not depth or value.dtype not in SIGNED:
        return False
    array = known(value)
    if array is not None:
        return bool(np.all(np.abs(array) == 1))
    node = value.producer()
    if node is None or node.domain != "":
        return False
    if node.op_type == "Where":
        return all(is_signs(choice, depth - 1) for choice in node.inputs[1:])
    if node.op_type == "Pad":
        fill = known(node.inputs[2]) if len(node.inputs) > 2 else None
        is_filled = node.attributes.get_string("mode", "constant") != "constant" or (
            fill is not None and abs(fill) == 1
        )
        return bool(is_filled) and is_signs(node.inputs[0], depth - 1)
    if node.op_type in ("Neg", "Mul", "Cast", "CastLike"):
        given = node.inputs[:1] if node.op_type.startswith("Cast") else node.inputs
        if all(is_signs(factor, depth - 1) for factor in given):
            return True
    if node.op_type in MOVES:
        return all(is_signs(source, depth - 1) for source in data_inputs(node))
    return of_boolean(value) in ((-1, 1), (1, -1))


def of_boolean(value: ir.Value) -> Levels | None:
    """(what `value` is of False, of True), where it is a boolean, cast, times numbers and plus numbers."""
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Cast":
        source = node.inputs[0]
        if source is None or source.dtype is ir.DataType.BOOL:
            return None if source is None else (0, 1)
        pair = of_boolean(source)
        return pair if pair is not None and all(one == int(one) for one in pair) else None
    if node.op_type not in _OPERATORS:
        return None
    left, right = node.inputs
    compute = _OPERATORS[node.op_type]
    if (given := number(left)) is not None and right is not None:
        pair = of_boolean(right)
        return None if pair is None else (compute(given, pair[0]), compute(given, pair[1]))
    if (given := number(right)) is not None and left is not None:
        pair = of_boolean(left)
        return None if pair is None else (compute(pair[0], given), compute(pair[1], given))
    return None


def known(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """A constant, cast or not."""
    array = known_array(value)
    while array is None and value is not None and (node := value.producer()) is not None:
        if node.domain != "" or node.op_type not in ("Cast", "CastLike"):
            return None
        value = node.inputs[0]
        array = known_array(value)
    return array


def number(value: ir.Value | None) -> float | None:
    """A constant of one element."""
    array = known(value)
    return float(array.item()) if array is not None and array.size == 1 else None
