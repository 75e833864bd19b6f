"""Reduce a map as a map, where a network flattens it first: in a file, channels last, that would transpose it.

    Before:  x [N, C, H, W] ─ Reshape [N, C·H·W] ┬ Abs ─ ReduceMean(axis 1) ─ y
                                                 └ Div(s [N, 1]) ─ Reshape [N, C, H, W] ─ z
    After:   x ┬ Abs ─ ReduceMean(axes 1, 2, 3) ─ Reshape ─ y
               └ Div(s [N, 1, 1, 1]) ─ z

A sum, mean, norm or maximum is that of the same numbers in either shape, and what works on each element alone does not
ask for one.  It is done where nothing else reads the flat map, such as a Linear, which knows its order.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import constant_of, new_constant, shape_of, take_over
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.flatten_means import AXES_ARE_INPUT_SINCE
from bnncc.passes.insertion import insert, insert_reshape
from bnncc.passes.positive import REDUCTIONS
from bnncc.passes.remove_unused import remove_unread

# Operators that work on each element alone, or on it and a number of its image.
OF_EACH = {
    "Abs", "Neg", "Identity", "Relu", "Clip", "Tanh", "Sigmoid", "Exp", "Log", "Sqrt", "Reciprocal", "Sign", "Pow",
    "Add", "Sub", "Mul", "Div", "Max", "Min",
}  # fmt: skip


class ReduceMaps(ir.passes.InPlacePass):
    """Rewrite every flattened map of four axes that reductions and operators of each element alone read."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, flatten: ir.Node) -> bool:
    x = flatten.inputs[0] if flatten.domain == "" and flatten.op_type in RESHAPES else None
    shape = shape_of(x) if x is not None else None
    flat = flatten.outputs[0]
    if x is None or shape is None or len(shape) != 4 or shape_of(flat) != (shape[0], int(np.prod(shape[1:]))):
        return False
    if graph.opset_imports.get("", 0) < AXES_ARE_INPUT_SINCE:
        return False
    nodes = _readers(graph, flat, shape)
    if nodes is None or not any(node.op_type in REDUCTIONS for node in nodes):
        return False
    maps, one = {flat: x}, (shape[0], 1, 1, 1)
    for node in nodes:
        y, operand = node.outputs[0], node.inputs[0]
        if node.op_type in REDUCTIONS:
            axes = new_constant(graph, np.array([1, 2, 3], np.int64), f"{y.name}/axes")
            reduction = ir.node(node.op_type, [maps[_known(operand)], axes], {"keepdims": 1})
            reduced = insert(graph, reduction, node, name=f"{y.name}/map", like=y, shape=one, origin=node)
            take_over(y, insert_reshape(graph, reduced, shape_of(y) or (), f"{y.name}/reduced", node))
        elif node.op_type in RESHAPES:
            take_over(y, maps[_known(operand)])
        else:
            operands = [_of_map(graph, value, maps, one, node) for value in node.inputs]
            of_map = ir.node(node.op_type, operands, dict(node.attributes))
            maps[y] = insert(graph, of_map, node, name=f"{y.name}/map", like=y, shape=shape, origin=node)
    remove_unread(graph, [*reversed(nodes), flatten])
    return True


def _readers(graph: ir.Graph, flat: ir.Value, shape: tuple[int, ...]) -> list[ir.Node] | None:
    """What reads the flat map, and what is computed of it in that shape, in the graph's order; None where something
    asks for the order of its elements.
    """
    values, nodes = [flat], set[ir.Node]()
    for value in values:
        if value in graph.outputs:
            return None
        for node, index in value.uses():
            if node in nodes:
                continue
            nodes.add(node)
            result = shape_of(node.outputs[0])
            if node.domain != "" or len(node.outputs) != 1:
                return None
            if node.op_type in OF_EACH and result == shape_of(flat):
                values.append(node.outputs[0])
            elif not (index == 0 and (_reduces_rows(node) or (node.op_type in RESHAPES and result == shape))):
                return None
    numbers = ((), (1,), (1, 1), (shape[0], 1))
    for node in nodes:
        others = [one for one in node.inputs if one is not None and one not in values]
        if node.op_type in OF_EACH and any(shape_of(one) not in numbers for one in others):
            return None
    return [node for node in graph if node in nodes]


def _reduces_rows(node: ir.Node) -> bool:
    axes = constant_of(node.inputs[1]) if node.op_type in REDUCTIONS and len(node.inputs) > 1 else None
    return axes is not None and axes.reshape(-1).tolist() in ([1], [-1])


def _of_map(
    graph: ir.Graph, value: ir.Value | None, maps: dict[ir.Value, ir.Value], one: tuple[int, ...], before: ir.Node
) -> ir.Value | None:
    """An operand beside a map: a map itself, one number, or one an image, in the shape `one`."""
    if value is None or value in maps or shape_of(value) in ((), (1,), (1, 1)):
        return value if value is None else maps.get(value, value)
    return insert_reshape(graph, value, one, f"{value.name}/{before.outputs[0].name}", before)


def _known(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
