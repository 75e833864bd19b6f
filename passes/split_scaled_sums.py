"""A layer of a sum of scaled bits becomes the sum of layers of bits: a convolution is linear in its input.

    Before:  S ─ Mul(r) ─ a;  T ─ Mul(q) ─ Add(a) ─ Conv(W, b) ─ y        S, T = ±1; r, q computed, one an image
    After:   S ─ Mul(r) ─ Conv(W, b) ─ u;  T ─ Mul(q) ─ Conv(W) ─ v ─ Add(u) ─ y

So spell networks a residual activation, sign(x)·mean|x| + sign(x - …)·mean|x - …|, whose levels differ from image to
image; levels that do not are `few_levels`'.  `sink_row_scales` then takes the scales behind the layers.  What moves or
pads the sum in front of the layer moves each term.

A constant that scales the sum, as the half of a mean of two, scales each term.

A term may be constant, as a learnt shift behind the signs is, and what the layer makes of it is constant as well:

    Before:  S ─ Mul(r) ─ Sub(t) ─ Conv(W, b) ─ y
    After:   S ─ Mul(r) ─ Conv(W, b) ─ Add(-Conv(t, W)) ─ y

A shift that `binary_operand` reads as a part of the signs, one number a channel for one, stays with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir.arrays import Array
from bnncc.ir.evaluate import constant_values
from bnncc.ir.graph import LAYER_INPUT_KEY, constant_of, new_constant, shape_of
from bnncc.ir.left_in_float import Reason, leave_in_float
from bnncc.passes.binary_operand import binary_operand
from bnncc.passes.cost import FLOAT_BYTES, CostModel
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.few_levels import copied, few_levels, moves_terms
from bnncc.passes.insertion import insert
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.shrink_constants import shrunk
from bnncc.passes.sink_row_scales import has_binary_weights, row_scale
from bnncc.passes.sum_of_products import expand_input
from bnncc.passes.weighted_layer import LAYERS

# A term of the sum, computed or constant, and what it is multiplied by: -1 where it is subtracted.
_Term = tuple[ir.Value, Array]
_ONE = np.ones((), np.float32)


class SplitScaledSums(ir.passes.InPlacePass):
    """Split every layer of constant weights that are sums of ±1 whose input is such a sum.

    cost: the target's, by which a layer stays where floats are faster; None never lets it.
    """

    def __init__(self, cost: CostModel | None = None) -> None:
        super().__init__()
        self.cost = cost

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, self._split))

    def _split(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.domain != "" or node.op_type not in LAYERS or len(node.inputs) < 2:
            return False
        between: list[ir.Node] = []
        x = node.inputs[0]
        while x is not None and (move := x.producer()) is not None and moves_terms(move):
            between.append(move)
            x = move.inputs[0]
        if x is None or len(every := _terms(x)) < 2 or not has_binary_weights(node) or few_levels(graph, x) is not None:
            return False
        terms = [term for term in every if constant_of(term[0]) is None]
        constants = [term for term in every if constant_of(term[0]) is not None]
        if not terms or not all(_is_scaled_bits(node, *term) for term in terms):
            return False
        if not self._is_faster(node, len(terms)):
            signs = "a scaled sign and a constant" if len(terms) == 1 else f"a sum of {len(terms)} scaled signs"
            text = f"its input is {signs}, and as small as it is, it is faster as floats"
            leave_in_float(node, Reason("sum-of-signs", text))
            return False
        constant = _behind(graph, node, x, constants, between) if constants else None
        values = []
        for index, (term, factor) in enumerate(terms):
            value = term
            if np.any(factor != 1):
                constant_factor = new_constant(graph, factor, f"{x.name}/factor{index}")
                name = f"{x.name}/term{index}"
                value = insert(graph, ir.node("Mul", [value, constant_factor]), node, name=name, like=term)
            values.append(_moved(graph, node, value, between, "term"))
        read = between[0] if between else x.producer()
        clause = f"its input taken as the sum of {len(terms)} scaled signs" if len(terms) > 1 else None
        layers, _ = expand_input(graph, node, values, clause, constant)
        for layer, (term, _) in zip(layers, terms, strict=True):
            # It reads another value than the layer of the network did.
            layer.metadata_props.setdefault(LAYER_INPUT_KEY, term.name or "")
        remove_unread(graph, [read])
        return True

    def _is_faster(self, node: ir.Node, terms: int) -> bool:
        if self.cost is None:
            return True
        x, weight = node.inputs[:2]
        assert x is not None
        assert weight is not None
        given, result = (math.prod(shape_of(value) or ()) for value in (x, node.outputs[0]))
        filters = shape_of(weight) or ()
        # What a result sums over: all of a filter but its place among the filters, the last axis of a MatMul's.
        outputs = filters[0] if node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1 else filters[-1]
        macs = result * math.prod(filters) // outputs
        # As bits: a word for each term, and its result is scaled and added.  As floats: the terms are.
        bits = self.cost(
            binary_macs=terms * macs, moved_bytes=FLOAT_BYTES * terms * (given + 4 * result), operators=4 * terms
        )
        floats = self.cost(
            float_macs=macs, moved_bytes=FLOAT_BYTES * (4 * terms * given + result), operators=2 * terms + 1
        )
        return bits < floats


def _terms(x: ir.Value, factor: Array = _ONE) -> list[_Term]:
    """What `x` is the sum of, values of its own shape and constants; itself where it is none."""
    node = x.producer()
    if node is None or node.domain != "" or node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return [(x, factor)]
    first, second = node.inputs
    if first is None or second is None:
        return [(x, factor)]
    if node.op_type in ("Mul", "Div"):
        scaled = _scaled(x, node.op_type, first, second)
        terms = [] if scaled is None else _terms(scaled[0], factor * scaled[1])
        return terms if len(terms) > 1 else [(x, factor)]
    constants = [constant_of(value) is not None for value in (first, second)]
    if any(shape_of(one) != shape_of(x) for one, fixed in zip((first, second), constants, strict=True) if not fixed):
        return [(x, factor)]
    if any(constants) and (all(constants) or binary_operand(x) is not None):
        return [(x, factor)]
    factors = factor, -factor if node.op_type == "Sub" else factor
    terms = []
    for value, fixed, own in zip((first, second), constants, factors, strict=True):
        terms.extend([(value, own)] if fixed else _terms(value, own))
    return terms


def _scaled(x: ir.Value, operator: str, first: ir.Value, second: ir.Value) -> tuple[ir.Value, Array] | None:
    """(z, c) of x = z · c or z / c, with z of its shape and a constant c that is not 0."""
    pairs = [(first, second)] if operator == "Div" else [(first, second), (second, first)]
    for value, other in pairs:
        array = constant_of(other)
        if array is None or array.dtype != np.float32 or not np.all(array) or shape_of(value) != shape_of(x):
            continue
        numbers = array.astype(np.float32)
        return value, np.float32(1) / numbers if operator == "Div" else numbers
    return None


def _moved(graph: ir.Graph, node: ir.Node, value: ir.Value, between: Sequence[ir.Node], suffix: str) -> ir.Value:
    """What the layer `node` reads of a term, `between`, last one first, having moved it."""
    for move in between[::-1]:
        value = copied(graph, node, move, value, suffix)
    return value


def _behind(
    graph: ir.Graph, node: ir.Node, x: ir.Value, constants: Sequence[_Term], between: Sequence[ir.Node]
) -> Array:
    """What the layer `node`, its bias aside, makes of the constant terms of `x`: it broadcasts to the output."""
    total = np.zeros(shape_of(x) or (), np.float64)
    for value, factor in constants:
        array = constant_of(value)
        assert array is not None
        total += factor.astype(np.float64) * array.astype(np.float64)
    given = new_constant(graph, total.astype(np.float32), f"{x.name}/constant")
    layer = ir.node(node.op_type, [_moved(graph, node, given, between, "constant"), node.inputs[1]])
    layer.attributes.update(node.attributes)
    result = insert(graph, layer, node, name=f"{node.outputs[0].name}/of_constant", like=node.outputs[0])
    (array,) = constant_values(ir.Model(graph, ir_version=10), [result]).values()
    remove_unread(graph, [layer])
    return shrunk(array)


def _is_scaled_bits(layer: ir.Node, x: ir.Value, factor: Array) -> bool:
    """True where `x` times `factor` is, with one scale for all channels: a sum of bits weighs none."""
    operand = binary_operand(x)
    if operand is None:
        return row_scale(layer, x) is not None and bool(np.all(factor == factor.flat[0]))
    scales = operand.affine.scale * factor.reshape(-1)
    return bool(np.all(scales == scales.flat[0]))
