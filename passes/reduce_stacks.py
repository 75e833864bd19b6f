"""Reduce what was stacked without the stack, which has one axis more than the maps and copies all of them.

    Before:  a, b, c [N, C, H, W] ─ Unsqueeze(k) ─ Concat(axis k) ─ ReduceMean(axis k) ─ y
    After:   a + b + c ─ Div(3) ─ y

So `torch.stack((a, b, c)).mean(0)` is spelt.  A sum of maps of bits is what `split_scaled_sums` and `few_levels` know.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of, new_constant, shape_of, take_over
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.flatten_means import AXES_ARE_INPUT_SINCE
from bnncc.passes.insertion import insert, insert_reshape
from bnncc.passes.remove_unused import remove_unread

# What joins two maps as the reduction does two numbers.
JOINED_BY = {"ReduceSum": "Add", "ReduceMean": "Add", "ReduceMax": "Max", "ReduceMin": "Min", "ReduceProd": "Mul"}
# Of more maps, as many passes over the result take longer than the stack.
MOST_MAPS = 8


class ReduceStacks(ir.passes.InPlacePass):
    """Rewrite every reduction over the axis of a stack, and over that alone."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in JOINED_BY or graph.opset_imports.get("", 0) < AXES_ARE_INPUT_SINCE:
        return False
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    stack = node.inputs[0]
    if stack is None or axes is None or axes.size != 1:
        return False
    axis = int(axes.reshape(-1)[0]) % len(shape_of(stack) or (1,))
    maps = _stacked(stack, axis)
    if not 1 < len(maps) <= MOST_MAPS:
        return False
    y, total = node.outputs[0], maps[0]
    for index, one in enumerate(maps[1:]):
        joined = ir.node(JOINED_BY[node.op_type], [total, one])
        total = insert(graph, joined, node, name=f"{y.name}/joined{index}", like=one)
    if node.op_type == "ReduceMean":
        count = new_constant(graph, np.array(len(maps), np.float32), f"{y.name}/count")
        total = insert(graph, ir.node("Div", [total, count]), node, name=f"{y.name}/mean", like=maps[0])
    if shape_of(total) != shape_of(y):  # keepdims
        total = insert_reshape(graph, total, shape_of(y) or (), f"{y.name}/kept", node)
    take_over(y, total)
    remove_unread(graph, [node])
    return True


def _stacked(stack: ir.Value, axis: int) -> Sequence[ir.Value]:
    """The float maps that lie side by side along `axis`, all of one shape; none where it is no such stack."""
    node, shape = stack.producer(), shape_of(stack)
    if node is None or node.domain != "" or node.op_type != "Concat" or not shape or stack.dtype != ir.DataType.FLOAT:
        return ()
    axis %= len(shape)
    if node.attributes.get_int("axis", 0) % len(shape) != axis:
        return ()
    own = (*shape[:axis], *shape[axis + 1 :])
    maps = []
    for part in node.inputs:
        layer = None if part is None else part.producer()
        given = None if layer is None or layer.domain != "" or layer.op_type != "Unsqueeze" else layer.inputs[0]
        if given is None or part is None or shape_of(given) != own or shape_of(part) != (*own[:axis], 1, *own[axis:]):
            return ()
        maps.append(given)
    return maps
