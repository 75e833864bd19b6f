"""How far a float may be off because large terms cancel: in LCE's convolutions, and in float layers that read ±1.

With p differing bits of K products, LceBconv2d computes

    y = p · (−2m) + (b + K·m)          the sum K − 2p times the multiplier m, plus the bias b, in float32

Where the sum is small, both terms are of size K·|m| all the same, and so are their roundings, however small y is.  What
comes behind it may clip y, but does not clip the error: relative to the clipped values it can be large.

A float layer that reads ±1 sums n terms ±w and a bias.  Where they cancel in every position, as in a window that reads
padding alone, all that is left of a channel are roundings, each relative to a part of Σ|w| + |b|.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.evaluate import Array
from bnncc.ir.graph import constant_of
from bnncc.ir.value_facts import is_binary

# Two products and two sums, each rounded to half a unit in the last place of a float32.
ROUNDINGS = 4 * 2.0**-24
SUMS = ("Conv", "Gemm", "MatMul")


def cancellation_bounds(graph: ir.Graph) -> Mapping[ir.Value, Array]:
    """For every value, float64 [C] or [1]: what these roundings may amount to, per channel; 0 where none reach it."""
    bounds: dict[ir.Value, Array] = {}
    for node in graph:
        for value in node.outputs:
            bounds[value] = _bound(node, bounds)
    return bounds


def float_sum_bound(value: ir.Value) -> Array:
    """float64 [C] or [1]: what the roundings of a float layer that reads ±1 may amount to, per channel; 0 for others.

    value: what the layer yields, or an activation behind it.
    """
    node = value.producer()
    if node is not None and node.op_type not in SUMS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type not in SUMS:
        return np.zeros(1)
    data, weight = node.inputs[0], constant_of(node.inputs[1])
    if data is None or weight is None or not is_binary(data):
        return np.zeros(1)
    rows_first = node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attributes.get_int("transB", 0))
    terms = np.abs(np.moveaxis(weight, -1 if rows_first else 0, 0).astype(np.float64))
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    largest = terms.reshape(len(terms), -1).sum(axis=1) + (0.0 if bias is None else np.abs(bias.reshape(-1)))
    # Roundings of either sign: their sum grows as the square root of their number.
    bound: Array = 2.0**-24 * (terms[0].size + 1) ** 0.5 * largest
    return bound


def _bound(node: ir.Node, bounds: Mapping[ir.Value, Array]) -> Array:
    none = np.zeros(1)
    given = [none if value is None else bounds.get(value, none) for value in node.inputs]
    if ops.is_binary_conv(node):
        weight, multiplier = constant_of(node.inputs[1]), constant_of(node.inputs[2])
        assert weight is not None
        assert multiplier is not None
        bound: Array = ROUNDINGS * weight[0].size * np.abs(multiplier.reshape(-1).astype(np.float64))
        return bound
    if node.domain != "":
        return none
    if node.op_type in ("Relu", "Clip", "Max", "Min", "Identity", "AveragePool", "MaxPool", "GlobalAveragePool"):
        return given[0]
    if node.op_type in ("Add", "Sub") and _agree(*given):
        return given[0] + given[1]
    if node.op_type in ("PRelu", "LeakyRelu"):
        slope = constant_of(node.inputs[1]) if node.op_type == "PRelu" else node.attributes["alpha"].as_float()
        steepest = 1.0 if slope is None else max(1.0, float(np.max(np.abs(slope))))
        return given[0] * steepest
    if node.op_type == "Mul":
        factor = next((array for value in node.inputs if (array := constant_of(value)) is not None), None)
        return none if factor is None else (given[0] + given[1]) * float(np.max(np.abs(factor)))
    return none


def _agree(first: Array, second: Array) -> bool:
    return first.size == second.size or 1 in (first.size, second.size)
