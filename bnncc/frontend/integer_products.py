"""Products of integers, none of whose sums float32 rounds, in floats: ONNX Runtime and devices have kernels for these.

    Before:  x, w of integers, no sum 2²⁴ or more ─ MatMul ─ y
    After:   x, w ─ Casts to float ─ MatMul ─ Cast ─ y

What is computed from y and constants goes on in floats, as far as it stays below 2²⁴:

    Before:  z ─ Cast to integers ─ Mul(2) ─ Sub(n) ─ Cast to float ─ y
    After:   z ─ Mul(2) ─ Sub(n) ─ y
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bnncc.frontend.levels import DEPTH, INTEGERS, SIGNED, is_signs, of_boolean
from bnncc.frontend.put import put
from bnncc.ir.evaluate import computed_constant
from bnncc.ir.graph import new_constant, shape_of, take_over
from bnncc.ir.value_facts import MOVES, data_inputs

# Whole numbers below it are floats.
EXACT = 2.0**24
# How large a result is, by the largest of its operands.
_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "Add": operator.add, "Sub": operator.add, "Mul": operator.mul,
}  # fmt: skip


def compute_products_in_floats(model: ir.Model) -> None:
    """In place; shapes and types are known."""
    for node in list(model.graph):
        limit = _limit(node) if node.domain == "" and node.op_type == "MatMul" else None
        if limit is not None:
            _compute_in_floats(model.graph, node, limit)


def _limit(node: ir.Node) -> float | None:
    """How far from 0 a sum of a product of integers may be; None where float32 might round it."""
    a, b = node.inputs
    shape = None if a is None else shape_of(a)
    if node.outputs[0].dtype not in INTEGERS or not shape:
        return None
    limits = [limit for factor in (a, b) if (limit := _largest(factor)) is not None]
    limit = math.prod(limits) * shape[-1] if len(limits) == 2 else EXACT
    return limit if limit < EXACT else None


def _compute_in_floats(graph: ir.Graph, node: ir.Node, limit: float) -> None:
    factors = [
        put(graph, node, "Cast", [factor], shape_of(factor) or (), to=int(ir.DataType.FLOAT))
        for factor in node.inputs
        if factor is not None
    ]
    value = put(graph, node, "MatMul", factors, shape_of(node.outputs[0]) or ())
    replace_by_floats(graph, node, value, limit)


def replace_by_floats(graph: ir.Graph, node: ir.Node, floats: ir.Value, largest: float) -> None:
    """Let `floats`, whole numbers of which none is further from 0 than `largest`, stand for the node's integers."""
    y = node.outputs[0]
    dtype = y.dtype or ir.DataType.INT64
    value = put(graph, node, "Cast", [floats], shape_of(y) or (), dtype=dtype, to=int(dtype))
    take_over(y, value)
    graph.remove(node, safe=True)
    _go_on(graph, value, floats, largest)


def _go_on(graph: ir.Graph, integers: ir.Value, floats: ir.Value, largest: float) -> None:
    """Compute in floats what is computed from `integers`, which are the same."""
    for node in [use.node for use in integers.uses()]:
        y = node.outputs[0]
        if node.op_type == "Cast" and y.dtype is ir.DataType.FLOAT:
            take_over(y, put(graph, node, "Identity", [floats], shape_of(y) or ()))
            graph.remove(node, safe=True)
        elif node.op_type in _OPERATORS and y.dtype in INTEGERS:
            other = node.inputs[1 if node.inputs[0] is integers else 0]
            array = None if other is None else computed_constant(other)
            if array is None or not array.size:
                continue
            bound = _OPERATORS[node.op_type](largest, float(np.abs(array.astype(np.float64)).max()))
            if bound >= EXACT:
                continue
            constant = new_constant(graph, array.astype(np.float32), f"{y.name}/constant")
            given = [floats if one is integers else constant for one in node.inputs]
            _go_on(graph, y, put(graph, node, node.op_type, given, shape_of(y) or ()), bound)


def _largest(value: ir.Value | None, depth: int = DEPTH) -> float | None:
    """No element of `value` is further from 0 than this, whatever the input is; None where that is not known."""
    if value is None or not depth:
        return None
    array = computed_constant(value)
    if array is not None:
        return float(np.abs(array.astype(np.float64)).max(initial=0))
    if is_signs(value) or value.dtype is ir.DataType.BOOL:
        return 1
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Sign":
        return 1
    if value.dtype not in SIGNED:
        return None
    if node.op_type == "Where":
        read = node.inputs[1:]
    elif node.op_type in ("Cast", "Neg", "Abs"):
        read = node.inputs[:1]
    elif node.op_type in MOVES:
        read = tuple(data_inputs(node))
    else:
        pair = of_boolean(value)
        return None if pair is None else max(map(abs, pair))
    limits = [limit for source in read if (limit := _largest(source, depth - 1)) is not None]
    return max(limits) if limits and len(limits) == len(read) and max(limits) < 128 else None
