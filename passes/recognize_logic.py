"""Turn arithmetic of ±1 maps and of booleans that takes two values into a Sign and the affine that remains.

    Before:  a, b = ±1 ─ Add ─ Add(1) ─ Clip(-1, 1) ─ Mul(c = ±1) ─ y ─ Conv
    After:   a, b = ±1 ─ Add ─ Add(1) ─ Clip(-1, 1) ─ Mul(c = ±1) ─ bnncc.Sign ─ y ─ Conv

    Before:  a, b = booleans ─ And ─ Cast ─ y ─ Conv
    After:   a, b = booleans ─ And ─ Cast ─ Add(-½) ─ bnncc.Sign ─ Mul(½) ─ Add(½) ─ y ─ Conv

A function of k such maps has 2^k values at most, all of which are computed here.  If they are two, low < high,

    y = (high - low)/2 · Sign(f - (high + low)/2) + (high + low)/2,

so the layer that reads y reads bits: OR, AND, XNOR and selection, however they are spelt.  A comparison with one jump
is a sign already (`recognize-steps`); what is left has more of them, or more than one operand.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import shape_of
from bnncc.ir.value_facts import is_binary
from bnncc.passes import piecewise
from bnncc.passes.elementwise import MOST_NODES, is_elementwise, number_or_array, operands_of
from bnncc.passes.elementwise_operators import apply_operator
from bnncc.passes.expression import Chain, rewrite_expressions
from bnncc.passes.piecewise import Function, Matrix
from bnncc.passes.traced import describe_signs
from bnncc.passes.weighted_layer import is_read_by_layer

# 2^k values are tabulated.
MOST_MAPS = 6


class RecognizeLogic(ir.passes.InPlacePass):
    """Put a Sign behind every such expression that a layer with weights reads."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_expressions(model.graph, _recognize))


def _recognize(graph: ir.Graph, node: ir.Node) -> bool:
    value = node.outputs[0]
    if is_binary(value) or not is_read_by_layer(value):
        return False
    table = _tabulate(value)
    values = None if table is None else np.unique(table)
    if values is None or values.size != 2:
        return False
    low, high = float(values[0]), float(values[1])
    half, middle = (high - low) / 2, (high + low) / 2
    # The sign takes over the name and the readers of the expression.
    name, readers = value.name or "logic", list(value.uses())
    chain = Chain(graph, _behind(graph, node), value, name)
    chain.per_channel("Add", np.array([-middle + 0.0]), "shift")
    chain.then(ops.sign(chain.value), "signs")
    signs = chain.value
    chain.per_channel("Mul", np.array([half]), "scale")
    chain.per_channel("Add", np.array([middle]), "offset")
    if chain.value is not signs:
        describe_signs(signs, name, np.array([half]), np.array([middle]))
    for use in readers:
        use.node.replace_input_with(use.idx, chain.value)
    if value in graph.outputs:
        graph.outputs[graph.outputs.index(value)] = chain.value
    value.name, chain.value.name = f"{name}/floats", name
    return True


def _behind(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """The node that follows: one that a layer reads is not the last."""
    nodes = iter(graph)
    return next(following for one in nodes if one is node for following in nodes)


def _tabulate(value: ir.Value) -> Matrix | None:
    """All values [2^k] of an expression of k binary maps; None where it is none, or of more or fewer than some."""
    shape = shape_of(value)
    order: list[ir.Value] = []
    maps: list[ir.Value] = []
    if not _collect(value, shape, order, maps) or not order or not 1 <= len(maps) <= MOST_MAPS:
        return None
    if len(maps) == 1 and not _is_zero_or_one(maps[0]):
        return None  # a step: `recognize-steps` left it as it is
    points = np.arange(2 ** len(maps))
    known: dict[ir.Value, Function] = {
        one: piecewise.constant(np.where(points >> index & 1, 1.0, 0.0 if _is_zero_or_one(one) else -1.0))
        for index, one in enumerate(maps)
    }
    for one in order:
        node = one.producer()
        assert node is not None
        arguments: list[Function] = []
        for operand in operands_of(node):
            array = None if operand is None or operand in known else number_or_array(operand)
            number = None if array is None or array.size != 1 else piecewise.constant(float(array.reshape(-1)[0]))
            arguments.append(number if operand is None or operand not in known else known[operand])
        known[one] = apply_operator(node, arguments)
    result = known[value]
    if result is None or not result.is_flat or result.knots.size:
        return None
    table: Matrix = result.offsets[:, 0]
    return table


def _collect(value: ir.Value, shape: tuple[int, ...] | None, order: list[ir.Value], maps: list[ir.Value]) -> bool:
    """Fill in the values that the expression computes, operands first, and the ±1 maps and booleans behind it."""
    if value in order or value in maps:
        return True
    if shape is None or shape_of(value) != shape or len(order) == MOST_NODES:
        return False
    if is_binary(value) or _is_zero_or_one(value):
        maps.append(value)
        return True
    node = value.producer()
    if node is None or not is_elementwise(node):
        return False
    for operand in operands_of(node):
        if operand is not None and number_or_array(operand) is None and not _collect(operand, shape, order, maps):
            return False
    order.append(value)
    return True


def _is_zero_or_one(value: ir.Value) -> bool:
    """True for a boolean, and for which of two is the larger."""
    if value.dtype == ir.DataType.BOOL:
        return True
    node = value.producer()
    if node is None or node.domain != "" or node.op_type not in ("ArgMax", "ArgMin") or node.inputs[0] is None:
        return False
    shape = shape_of(node.inputs[0])
    return shape is not None and shape[node.attributes.get_int("axis", 0)] == 2
