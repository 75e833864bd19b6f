"""Turn arithmetic of ±1 maps and of booleans that takes two values into a Sign and the affine that remains.

    Before:  a, b = ±1 ─ Add ─ Add(1) ─ Clip(-1, 1) ─ Mul(c = ±1) ─ y ─ Conv
    After:   a, b = ±1 ─ Add ─ Add(1) ─ Clip(-1, 1) ─ Mul(c = ±1) ─ bnncc.Sign ─ y ─ Conv

    Before:  a, b = booleans ─ And ─ Cast ─ y ─ Conv
    After:   a, b = booleans ─ And ─ Cast ─ Mul(-1) ─ Add(½) ─ bnncc.Sign ─ Mul(-½) ─ Add(½) ─ y ─ Conv

A function of k such maps has 2^k values at most, all of which are computed here.  If they are two, low < high,

    y = (high - low)/2 · Sign(f - (high + low)/2) + (high + low)/2,

with f and the sign negated where low is 0, so that zero padding is with +1.  So the layer that reads y reads bits: OR,
AND, XNOR and selection, however they are spelt.  A comparison with one jump is a sign already (`recognize-steps`); what
is left has more of them, or more than one operand.  The largest and the smallest of some ±1 are ±1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of
from bnncc.ir.value_facts import FIRST_INPUT_ONLY, MOVES, data_inputs, is_binary
from bnncc.passes import piecewise
from bnncc.passes.binary_operand import binary_operand
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import MOST_NODES, is_elementwise, number_or_array, operands_of
from bnncc.passes.elementwise_operators import apply_operator
from bnncc.passes.expression import Chain
from bnncc.passes.piecewise import Function, Matrix
from bnncc.passes.ranges import whole_numbers
from bnncc.passes.traced import describe_signs
from bnncc.passes.weight_terms import takes_few_values
from bnncc.passes.weighted_layer import LAYERS, output_first

# These yield one of what they read, and so of ±1 do these with them.
CHOOSING = {"Max", "Min", "MaxPool", "ReduceMax", "ReduceMin", "GlobalMaxPool"}
CHOICES = CHOOSING | {"Neg", "Mul"}
# So many of these and moves in a row are looked through.
MOST_CHOICES = 12
# 2^k values are tabulated.
MOST_MAPS = 6


class RecognizeLogic(ir.passes.InPlacePass):
    """Put a Sign behind every such expression that a layer with weights reads: where it holds other operands than bits,
    one whose weights may be bits.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _recognize, backwards=True))


def _recognize(graph: ir.Graph, node: ir.Node) -> bool:
    value = node.outputs[0]
    if value.dtype != ir.DataType.FLOAT or is_binary(value) or not _is_read(value, by_bits=False):
        return False
    values, of_signs = _values(value)
    if values is None or values.size != 2:
        return False
    if not of_signs and not _is_read(value, by_bits=True):
        return False  # a row that is one element is exact in floats, and faster
    low, high = float(values[0]), float(values[1])
    half, middle = (high - low) / 2, (high + low) / 2
    # The sign takes over the name and the readers of the expression.
    name, readers = value.name or "logic", list(value.uses())
    chain = Chain(graph, _behind(graph, node), value, name)
    if low == 0:  # its bit is +1, which kernels pad with
        half = -half
        chain.per_channel("Mul", np.array([-1.0]), "slope")
    chain.per_channel("Add", np.array([-middle if half > 0 else middle]) + 0.0, "shift")
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


def _values(value: ir.Value) -> tuple[Matrix | None, bool]:
    """The values that the expression behind `value` takes, None where it is no such; whether bits are all it reads."""
    table, of_signs = (np.array([-1.0, 1.0]), False) if _chooses(value) else _tabulate(value)
    return (None if table is None else np.unique(table)), of_signs


def _is_read(value: ir.Value, *, by_bits: bool) -> bool:
    """True where a layer reads it, moved, padded or joined with other bits at most.

    by_bits: a layer whose weights may be bits: a few values an output.
    """
    for use in value.uses():
        node = use.node
        if node.domain != "":
            continue
        if node.op_type in LAYERS:
            if not by_bits or (use.idx == 0 and _may_have_bits(node)):
                return True
        elif node.op_type == "Concat":
            others = [one for one in dict.fromkeys(node.inputs) if one is not None and one is not value]
            if all(map(_is_bits, others)) and _is_read(node.outputs[0], by_bits=by_bits):
                return True
        elif node.op_type in FIRST_INPUT_ONLY and any(_is_read(one, by_bits=by_bits) for one in node.outputs):
            return True
    return False


def _may_have_bits(layer: ir.Node) -> bool:
    weights = constant_of(layer.inputs[1])
    if weights is None or weights.ndim < 2:
        return False
    filters = weights if layer.op_type == "Conv" else output_first(layer, weights)
    return filters.ndim > 1 and takes_few_values(filters)


def _is_bits(value: ir.Value) -> bool:
    """True for bits, scaled and shifted or not, and for an expression that becomes such."""
    if binary_operand(value) is not None:
        return True
    values, _ = _values(value)
    return values is not None and values.size == 2


def _behind(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """The node that follows: one that a layer reads is not the last."""
    nodes = iter(graph)
    return next(following for one in nodes if one is node for following in nodes)


def _tabulate(value: ir.Value) -> tuple[Matrix | None, bool]:
    """All values [2^k] of an expression of k binary maps, None where it is none, or of more or fewer than some; whether
    they are bits already.
    """
    order: list[ir.Value] = []
    maps: list[ir.Value] = []
    if not _collect(value, order, maps) or not 1 <= len(maps) <= MOST_MAPS:
        return None, False
    if len(maps) == 1 and is_binary(maps[0]):
        return None, False  # a step: `recognize-steps` left it as it is
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
        return None, False
    table: Matrix = result.offsets[:, 0]
    return table, all(map(is_binary, maps))


def _collect(value: ir.Value, order: list[ir.Value], maps: list[ir.Value]) -> bool:
    """Fill in the values that the expression computes, operands first, and the ±1 maps and booleans behind it, which
    may broadcast.
    """
    if value in order or value in maps:
        return True
    if len(order) == MOST_NODES:
        return False
    if is_binary(value) or _chooses(value) or _is_zero_or_one(value):
        maps.append(value)
        return True
    node = value.producer()
    if node is None or not is_elementwise(node):
        return False
    for operand in operands_of(node):
        if operand is not None and number_or_array(operand) is None and not _collect(operand, order, maps):
            return False
    order.append(value)
    return True


def _yields_signs(value: ir.Value, depth: int = MOST_CHOICES) -> bool:
    """True for ±1 maps, their products, and the largest and smallest of their elements, negated or not."""
    if is_binary(value):
        return True
    node = value.producer()
    if node is None or node.domain != "" or not depth:
        return False
    if node.op_type in MOVES or node.op_type in CHOICES:
        every = node.inputs if node.op_type in ("Max", "Min", "Mul") else data_inputs(node)
        sources = every[:1] if node.op_type in ("ReduceMax", "ReduceMin") else every
        return all(source is not None and _yields_signs(source, depth - 1) for source in sources)
    return False


def _chooses(value: ir.Value) -> bool:
    """True for ±1 that are chosen among ±1: what only negates or moves them, layers take as it is."""
    if not _yields_signs(value):
        return False
    pending, seen = [value], set[ir.Value]()
    while pending:
        one = pending.pop()
        node = one.producer()
        if one in seen or is_binary(one) or node is None:
            continue
        seen.add(one)
        if node.op_type in CHOOSING:
            return True
        pending += [source for source in node.inputs if source is not None]
    return False


def _is_zero_or_one(value: ir.Value) -> bool:
    """True for a boolean, which of two is the larger, what is left of an integer divided by 2, and a rounded share."""
    return whole_numbers(value) == (0, 1)
