"""Select where a comparison's 0 or 1 multiplies: one Where instead of products and a sum.

    Before:  u ─ Sigmoid ─ Greater(½) ─ Cast ─ g;   g·b + (1 - g)·a ─ y
    After:   u ─ Greater(0) ─ c;   Where(c, b, a) ─ y

    g·b = Where(c, b, 0)      (1 - g)·a = Where(c, 0, a)      Where(c, b, 0) + Where(c, 0, a) = Where(c, b, a)
    a + g·(b - a) = Where(c, b, a)

g is the Cast of c, or an affine of that which takes 0 and 1.  In front of the comparison what rises or falls goes into
the threshold, exactly as far as float64 says:

    s·u + h > k  ⇔  u > (k - h)/s      s > 0; with s < 0 it is <        sigmoid(u) > k  ⇔  u > log(k / (1 - k))

The comparison keeps its name: where rounding makes it differ, verification finds that its operands are near each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, new_constant, shape_of, sole_consumer, take_over
from bnncc.passes.affine import affine_of, channel_vector
from bnncc.passes.byte_steps import is_byte
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert
from bnncc.passes.remove_unused import remove_unread

MIRRORED = {"Greater": "Less", "Less": "Greater", "GreaterOrEqual": "LessOrEqual", "LessOrEqual": "GreaterOrEqual"}


@dataclass(frozen=True)
class _Mask:
    """A float value that is 1 where `condition` holds and 0 elsewhere; with `inverted`, the other way round."""

    condition: ir.Value
    inverted: bool


@dataclass(frozen=True)
class _Product:
    """mask · other."""

    mask: _Mask
    other: ir.Value


class RecognizeGates(ir.passes.InPlacePass):
    """Replace every such sum, then what is left of such products, then simplify the comparisons."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        changed = rewrite_each(graph, _select_of_sum)
        changed |= rewrite_each(graph, _select_of_product)
        changed |= rewrite_each(graph, _simplify)
        return ir.passes.PassResult(model, modified=changed)


# Products and sums


def _select_of_sum(graph: ir.Graph, node: ir.Node) -> bool:
    if not _is_float(node, "Add"):
        return False
    for first, second in ((0, 1), (1, 0)):
        value, other = node.inputs[first], node.inputs[second]
        product = _product(graph, value)
        if product is None or other is None:
            continue
        rest = _product(graph, other)
        if rest is not None and rest.mask == _Mask(product.mask.condition, not product.mask.inverted):
            return _replace(graph, node, product.mask, product.other, rest.other)
        step = product.other.producer()
        if step is not None and _is_float(step, "Sub") and step.inputs[1] is other and step.inputs[0] is not None:
            return _replace(graph, node, product.mask, step.inputs[0], other)
    return False


def _select_of_product(graph: ir.Graph, node: ir.Node) -> bool:
    product = _product(graph, node.outputs[0], shared=True)
    y = node.outputs[0]
    if product is None or _is_two_valued(product.other):
        return False
    if shape_of(product.other) != shape_of(y):
        return False  # a scale of rows or channels, which may go behind the layer that reads its product
    zero = new_constant(graph, np.array(0, np.float32), f"{y.name}/zero")
    return _replace(graph, node, product.mask, product.other, zero)


def _replace(graph: ir.Graph, node: ir.Node, mask: _Mask, chosen: ir.Value, otherwise: ir.Value) -> bool:
    """Where(mask, chosen, otherwise) in place of `node`."""
    y, sources = node.outputs[0], [value.producer() for value in node.inputs if value is not None]
    shapes = [shape_of(value) for value in (mask.condition, chosen, otherwise)]
    if any(shape is None for shape in shapes) or np.broadcast_shapes(*filter(None, shapes)) != shape_of(y):
        return False
    branches = [otherwise, chosen] if mask.inverted else [chosen, otherwise]
    select = ir.node("Where", [mask.condition, *branches])
    result = insert(graph, select, node, name=f"{y.name}/selected", like=y)
    result.metadata_props.update(y.metadata_props)
    take_over(y, result)
    graph.remove(node, safe=True)
    remove_unread(graph, sources)
    return True


def _product(graph: ir.Graph, value: ir.Value | None, *, shared: bool = False) -> _Product | None:
    """`value` as a mask times another computed value; with `shared`, whoever else reads it."""
    node = value.producer() if value is not None else None
    if value is None or node is None or not _is_float(node, "Mul"):
        return None
    if not shared and sole_consumer(graph, value) is None:
        return None
    for first, second in ((0, 1), (1, 0)):
        factor, other = node.inputs[first], node.inputs[second]
        mask = _mask(factor)
        if mask is not None and other is not None and constant_of(other) is None:
            return _Product(mask, other)
    return None


def _mask(value: ir.Value | None) -> _Mask | None:
    """The mask that `value` is: a Cast of a comparison, or 1 less such a Cast."""
    node = value.producer() if value is not None else None
    scale, shift = np.ones(1), np.zeros(1)
    while node is not None and (step := affine_of(node)) is not None:
        scale, shift = scale * step[1].scale, scale * step[1].shift + shift
        node = step[0].producer()
    if node is None or node.domain != "" or node.op_type != "Cast" or node.inputs[0] is None:
        return None
    condition = node.inputs[0]
    if condition.dtype != ir.DataType.BOOL or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    if np.all(shift == 0) and np.all(scale == 1):
        return _Mask(condition, inverted=False)
    return _Mask(condition, inverted=True) if np.all(shift == 1) and np.all(scale == -1) else None


def _is_two_valued(value: ir.Value) -> bool:
    """True for a sign or another mask: their product is two-valued, and for `recognize_steps` to see."""
    node = value.producer()
    while node is not None and (step := affine_of(node)) is not None:
        node = step[0].producer()
    if node is None:
        return False
    return ops.yields_signs(node) or (node.domain == "" and node.op_type in ("Sign", "Cast", "Where", "Mul"))


def _is_float(node: ir.Node, operator: str) -> bool:
    return node.domain == "" and node.op_type == operator and node.outputs[0].dtype == ir.DataType.FLOAT


# Comparisons


def _simplify(graph: ir.Graph, node: ir.Node) -> bool:
    """Take affines and sigmoids in front of a comparison with constants, which selects, into the constants."""
    if node.domain != "" or node.op_type not in MIRRORED or not _selects(graph, node.outputs[0]):
        return False
    left, right = node.inputs
    shape = shape_of(node.outputs[0])
    if left is None or right is None or shape is None:
        return False
    operator, x, bound = node.op_type, left, constant_of(right)
    if bound is None:
        operator, x, bound = MIRRORED[node.op_type], right, constant_of(left)
    threshold = channel_vector(bound, shape) if len(shape) > 1 else None
    if threshold is None or shape_of(x) != shape:
        return False
    source = x
    # What something else reads as well is computed anyway, and folds into the layer in front of it.
    while (inner := source.producer()) is not None and sole_consumer(graph, source) is not None:
        step = affine_of(inner)
        if step is not None and (np.all(step[1].scale > 0) or np.all(step[1].scale < 0)):
            threshold = (threshold - step[1].shift) / step[1].scale
            operator = MIRRORED[operator] if step[1].scale[0] < 0 else operator
            source = step[0]
        elif inner.domain == "" and inner.op_type == "Sigmoid" and np.all((threshold > 0) & (threshold < 1)):
            threshold = np.log(threshold / (1 - threshold)) + 0.0
            assert inner.inputs[0] is not None
            source = inner.inputs[0]
        else:
            break
    if source is x or is_byte(
        source
    ):  # of a byte, ties are no chance, and fall as the network's own roundings let them
        return False
    rank = len(shape)
    y = node.outputs[0]
    constant = new_constant(graph, threshold.astype(np.float32).reshape(1, -1, *(1,) * (rank - 2)), f"{y.name}/bound")
    compare = ir.node(operator, [source, constant])
    result = insert(graph, compare, node, name=f"{y.name}/compared", like=y)
    take_over(y, result)
    graph.remove(node, safe=True)
    remove_unread(graph, [x.producer()])
    return True


def _selects(graph: ir.Graph, condition: ir.Value) -> bool:
    """True where only Wheres read it, as their condition."""
    uses = list(condition.uses())
    return (
        condition not in graph.outputs
        and bool(uses)
        and all(use.node.domain == "" and use.node.op_type == "Where" and use.idx == 0 for use in uses)
    )
