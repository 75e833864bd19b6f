"""Add up, multiply or compare maps that a network stacks first, each as it is.

    Before:  a, b, c ─ Unsqueeze ─ Concat(axis) ─ Mul(w) ─ ReduceSum(axis) ─ y
    After:   a ─ Mul(w₀) ─┐
             b ─ Mul(w₁) ─ Add ─ Add(c · w₂) ─ y

So the stack is not written, scales go into the layers in front, and a sum or product of signs is seen as such.  A mean
is the sum over their number.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.arrays import Array
from bnncc.ir.graph import constant_of, new_constant, shape_of, sole_consumer, take_over, unique_name
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert, insert_reshape
from bnncc.passes.remove_unused import remove_unread

OPERATORS = {"ReduceSum": "Add", "ReduceMean": "Add", "ReduceProd": "Mul", "ReduceMax": "Max", "ReduceMin": "Min"}
# A longer chain takes longer than one reduction.
MOST_PARTS = 8


class UnstackReductions(ir.passes.InPlacePass):
    """Rewrite every reduction over an axis along which maps were stacked."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in OPERATORS or len(node.inputs) != 2:
        return False
    x, axes, y = node.inputs[0], constant_of(node.inputs[1]), node.outputs[0]
    shape = shape_of(x) if x is not None else None
    if x is None or axes is None or axes.size != 1 or shape is None or y.dtype != ir.DataType.FLOAT:
        return False
    axis = int(axes.item()) % len(shape)
    scale, stacked = _scaled(graph, x)
    stack = stacked.producer()
    if stack is None or stack.domain != "" or stack.op_type != "Concat" or sole_consumer(graph, stacked) is None:
        return False
    parts = [part for part in stack.inputs if part is not None]
    is_stack = stack.attributes["axis"].as_int() % len(shape) == axis and 1 < len(parts) == shape[axis] <= MOST_PARTS
    if not is_stack:
        return False
    kept, own, name = shape_of(y) or (), (*shape[:axis], *shape[axis + 1 :]), y.name or "reduced"
    # An axis that is kept is put back at the end where the maps have been without it.
    size = own if all(_map_of(part, own) is not None for part in parts) else kept
    values = []
    for index, part in enumerate(parts):
        value = _unstacked(graph, node, part, size, f"{name}/part{index}")
        if scale is not None:
            factor = np.take(scale, [index], axis) if scale.shape[axis] > 1 else scale
            factor = factor if len(size) == len(shape) else factor.squeeze(axis)
            scaled = ir.node("Mul", [value, new_constant(graph, factor, f"{name}/factor{index}")])
            value = insert(graph, scaled, node, name=unique_name(graph, f"{name}/scaled{index}"), like=value)
        values.append(value)
    result = values[0]
    for index, value in enumerate(values[1:]):
        joined = ir.node(OPERATORS[node.op_type], [result, value])
        result = insert(graph, joined, node, name=unique_name(graph, f"{name}/joined{index}"), like=result)
    if node.op_type == "ReduceMean":
        share = new_constant(graph, np.array(1 / len(parts), np.float32), f"{name}/share")
        mean = ir.node("Mul", [result, share])
        result = insert(graph, mean, node, name=unique_name(graph, f"{name}/mean"), like=result)
    if size != kept:
        result = insert_reshape(graph, result, kept, unique_name(graph, f"{name}/kept"), node)
    take_over(y, result)
    remove_unread(graph, [node])
    return True


def _scaled(graph: ir.Graph, x: ir.Value) -> tuple[Array | None, ir.Value]:
    """(w, s) where `x` is s · w, of the shape of s, which nothing else reads, with a constant w, given as many axes;
    else (None, x).
    """
    node = x.producer()
    if node is None or node.domain != "" or node.op_type != "Mul" or sole_consumer(graph, x) is None:
        return None, x
    for value, factor in (node.inputs, node.inputs[::-1]):
        array, rank = constant_of(factor), len(shape_of(x) or ())
        if value is None or array is None or shape_of(value) != shape_of(x):
            continue
        if array.ndim <= rank and array.dtype == np.float32:
            return array.reshape((1,) * (rank - array.ndim) + array.shape), value
    return None, x


def _map_of(part: ir.Value, size: tuple[int, ...]) -> ir.Value | None:
    """The map of the shape `size` that `part` of a stack is, where there is one."""
    producer = part.producer()
    if producer is None or producer.domain != "" or producer.op_type not in ("Unsqueeze", "Reshape"):
        return None
    inner = producer.inputs[0]
    return inner if inner is not None and shape_of(inner) == size else None


def _unstacked(graph: ir.Graph, node: ir.Node, part: ir.Value, size: tuple[int, ...], name: str) -> ir.Value:
    """The map that `part` is, of the shape `size`."""
    inner = _map_of(part, size)
    if inner is not None:
        return inner
    return part if shape_of(part) == size else insert_reshape(graph, part, size, unique_name(graph, name), node)
