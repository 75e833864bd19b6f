"""Clamp first and round then, so that what is rounded has few results.

    Before:  x ─ Div(α) ─ Round ─ Max(0) ─ Min(1) ─ Mul(α) ─ Conv ─ y
    After:   x ─ Div(α) ─ Max(0) ─ Min(1) ─ Round ─ Mul(α) ─ Conv ─ y

A rounding is monotone and keeps whole numbers: max(round(x), n) = round(max(x, n)) for every whole n, to the bit.
Quantisers with a learnt step (Esser et al., Learned Step Size Quantization, 2020, equation 1) are written either way.
A whole number c that is added in between, as the zero point of a quantiser, is added last:

    Before:  x ─ Round ─ Add(c) ─ Clip(l, u) ─ y          After:   x ─ Clip(l - c, u - c) ─ Round ─ Add(c) ─ y

which is exact as well: whole numbers this small add up without rounding, and larger ones are clamped either way.

A clamp may be a selection as well, as of Brevitas' quantisers:

    Before:  x ─ Round ─ r ─ Where(r > n, n, r) ─ y          After:   x ─ Clip(max = n) ─ Round ─ y
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import Array
from bnncc.ir.graph import new_constant, shape_of, sole_consumer, take_over
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import interpret, number_or_array
from bnncc.passes.expression import exclusive
from bnncc.passes.insertion import insert, insert_copy
from bnncc.passes.kept_order import ROUNDINGS
from bnncc.passes.piecewise import Piecewise, simplified
from bnncc.passes.remove_unused import remove_unread

CLAMPS = ("Max", "Min", "Clip", "Relu")
# Of whole numbers below it, a sum of two is a float32.
LARGEST = 2.0**22


class ClampBeforeRounding(ir.passes.InPlacePass):
    """Move every clamp to whole numbers in front of the rounding that only it reads."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain == "" and node.op_type == "Where":
        return _rewrite_selection(graph, node)
    if node.domain != "" or node.op_type not in CLAMPS or len(node.inputs) > (3 if node.op_type == "Clip" else 2):
        return False
    if _add_last(graph, node):
        return True
    rounded = next((index for index, value in enumerate(node.inputs) if _is_rounded(value)), None)
    bounds = [value for index, value in enumerate(node.inputs) if index != rounded and value is not None]
    if rounded is None or not all(map(_is_whole, bounds)):
        return False
    value, result = node.inputs[rounded], node.outputs[0]
    assert value is not None
    rounding = value.producer()
    if rounding is None or sole_consumer(graph, value) is not node or shape_of(value) != shape_of(result):
        return False
    sources = list(node.inputs)
    sources[rounded] = rounding.inputs[0]
    (clamped,) = insert_copy(graph, node, sources, node, "unrounded")
    name = f"{result.name}/rounded"
    moved = insert(graph, ir.node(rounding.op_type, [clamped]), node, name=name, like=result, origin=rounding)
    take_over(result, moved)
    graph.remove([node, rounding], safe=True)
    return True


def _add_last(graph: ir.Graph, node: ir.Node) -> bool:
    """Put a clamp that reads a rounding plus a whole number in front of that sum, and of the rounding."""
    result = node.outputs[0]
    for index, value in enumerate(node.inputs):
        added = value.producer() if value is not None else None
        if value is None or added is None or sole_consumer(graph, value) is not node or added.domain != "":
            continue
        shift = _shift(added)
        bounds = [one for place, one in enumerate(node.inputs) if place != index and one is not None]
        arrays = [number_or_array(one) for one in bounds]
        are_small = all(array is not None and _is_small(array[np.isfinite(array)]) for array in arrays)
        if shift is None or not are_small or shape_of(value) != shape_of(result):
            continue
        rounded, number = shift
        name = result.name or ""
        if node.op_type == "Relu":
            below = ir.node("Max", [rounded, new_constant(graph, np.array(-number, np.float32), f"{name}/bound")])
        else:
            inputs = [
                rounded if one is value else None if one is None else _moved(graph, one, -number, name)
                for one in node.inputs
            ]
            below = ir.node(node.op_type, inputs)
        clamped = insert(graph, below, node, name=f"{name}/before", like=result, origin=node)
        last = ir.node("Add", [clamped, new_constant(graph, np.array(number, np.float32), f"{name}/shift")])
        take_over(result, insert(graph, last, node, name=f"{name}/added", like=result, origin=added))
        graph.remove([node, added], safe=True)
        _rewrite(graph, below)
        return True
    return False


def _shift(added: ir.Node) -> tuple[ir.Value, float] | None:
    """(r, c) of r + c or r - c, where r is rounded and c a whole number."""
    if added.op_type not in ("Add", "Sub"):
        return None
    left, right = added.inputs
    pairs = [(left, right)] if added.op_type == "Sub" else [(left, right), (right, left)]
    for value, other in pairs:
        array = None if other is None else number_or_array(other)
        if value is None or array is None or array.size != 1 or not _is_small(array) or array.dtype.kind != "f":
            continue
        if _is_rounded(value) and shape_of(value) == shape_of(added.outputs[0]):
            return value, float(array.item()) if added.op_type == "Add" else -float(array.item())
    return None


def _moved(graph: ir.Graph, bound: ir.Value, number: float, name: str) -> ir.Value:
    array = number_or_array(bound)
    assert array is not None
    return new_constant(graph, array.astype(np.float32) + np.float32(number), f"{name}/bound")


def _is_small(array: Array) -> bool:
    """Whole, and so small that sums with such numbers are not rounded."""
    return _are_whole(array) and bool(np.all(np.abs(array) < LARGEST))


def _rewrite_selection(graph: ir.Graph, node: ir.Node) -> bool:
    """Put a Clip in front of the rounding whose result `node`, a Where, clamps."""
    result = node.outputs[0]
    for candidate in interpret(result):
        rounding = candidate.source.producer()
        bounds = _bounds_of(candidate.function)
        if rounding is None or not _is_rounded(candidate.source) or bounds is None:
            continue
        inside = exclusive(graph, candidate.nodes)
        if candidate.source in graph.outputs or any(use.node not in inside for use in candidate.source.uses()):
            continue
        least, most = (
            new_constant(graph, np.array(bound, np.float32), f"{result.name}/{name}") if np.isfinite(bound) else None
            for bound, name in zip(bounds, ("least", "most"), strict=True)
        )
        clip = ir.node("Clip", [rounding.inputs[0], least, most])
        clamped = insert(graph, clip, node, name=f"{result.name}/unrounded", like=result)
        rounded = ir.node(rounding.op_type, [clamped])
        take_over(result, insert(graph, rounded, node, name=f"{result.name}/rounded", like=result, origin=rounding))
        remove_unread(graph, [node])
        return True
    return False


def _bounds_of(function: Piecewise) -> tuple[float, float] | None:
    """(least, most) of a function of all channels that is x clamped to whole numbers; None of others."""
    function = simplified(function)
    if function.center is not None or function.channels != 1 or not function.knots.size:
        return None
    slopes, knots, offsets = function.slopes[0].tolist(), function.knots[0].tolist(), function.offsets[0].tolist()
    if slopes not in ([0, 1], [1, 0], [0, 1, 0]) or any(knot != round(knot) for knot in knots):
        return None
    # A piece of x itself has no offset, a flat one is as high as the knot that it ends at.
    rising = slopes.index(1)
    expected = [*knots[:rising], 0.0, *knots[rising:]]
    if offsets != expected or not np.array_equal(function.at, function.knots):
        return None
    return knots[0] if rising else -np.inf, knots[-1] if rising < len(knots) else np.inf


def _is_rounded(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    return node is not None and node.domain == "" and node.op_type in ROUNDINGS


def _is_whole(value: ir.Value) -> bool:
    array = number_or_array(value)
    return array is not None and array.dtype.kind == "f" and _are_whole(array)


def _are_whole(array: Array) -> bool:
    return bool(np.all(array == np.rint(array)))
