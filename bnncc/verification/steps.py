"""Roundings and comparisons: how far their operands are from where the result jumps.

    Round x             x = k + ½
    Floor x, Ceil x     x = k
    x < y, x = y, …     x − y = 0

Two right programs may differ there, and only there: where the distance is no larger than the operands' error.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import Array
from bnncc.ir.graph import constant_of

COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
STEPS = ("Round", "Floor", "Ceil", *COMPARISONS)


def distance(node: ir.Node, values: Mapping[ir.Value, Array]) -> Array:
    """How far the operands of a step are from its threshold, float64 of its result's shape."""
    operands = [_operand(value, values).astype(np.float64) for value in node.inputs if value is not None]
    x = operands[0]
    if node.op_type in COMPARISONS:
        apart: Array = np.abs(np.subtract(*operands))
        return apart
    nearest = np.floor(x) + 0.5 if node.op_type == "Round" else np.round(x)
    away: Array = np.abs(x - nearest)
    return away


def step_bound(node: ir.Node, bounds: Mapping[ir.Value, Array]) -> Array:
    """What rounding may amount to in that distance."""
    operands = [bounds[value] for value in node.inputs if value is not None]
    total: Array = np.sum(np.broadcast_arrays(*operands), axis=0)
    return total


def _operand(value: ir.Value, values: Mapping[ir.Value, Array]) -> Array:
    array = constant_of(value)
    return values[value] if array is None else array
