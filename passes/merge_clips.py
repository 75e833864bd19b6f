"""One Clip where several operators bound the same values: `clamp` is exported as a Max and a Min.

    Before:  x ─ Max(l) ─ Min(h) ─ y          Before:  x ─ Relu ─ Min(6) ─ y
    After:   x ─ Clip(l, h) ─ y               After:   x ─ Clip(0, 6) ─ y

    min(max(x, l), h) = max(min(x, h), l) = clip(x, l, h)        l ≤ h

Bounds that leave [l, h] by one another bound the rest too: clip(clip(x, l, h), l', h') is clip(x, max(l, l'),
min(h, h')) where that interval is not empty.  The files have one operator for the well-known bounds, and the operator
in front applies these itself.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of, inherit_source, new_constant, shape_of, sole_consumer, take_over
from bnncc.passes.each_node import rewrite_each

UNBOUNDED = (-np.inf, np.inf)


class MergeClips(ir.passes.InPlacePass):
    """Compose every maximal chain of Max, Min, Relu and Clip with one constant for all values."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    first = clip_of(node)
    if first is None:
        return False
    x, (low, high) = first
    nodes = [node]
    while (following := sole_consumer(graph, nodes[-1].outputs[0])) is not None:
        step = clip_of(following)
        if step is None or max(low, step[1][0]) > min(high, step[1][1]):
            break
        low, high = max(low, step[1][0]), min(high, step[1][1])
        nodes.append(following)
    if len(nodes) == 1:
        return False
    y = nodes[-1].outputs[0]
    bounds = [
        new_constant(graph, np.array(bound, np.float32), f"{y.name}/{name}") if np.isfinite(bound) else None
        for name, bound in (("low", low), ("high", high))
    ]
    merged = ir.node("Relu", [x]) if (low, high) == (0.0, np.inf) else ir.node("Clip", [x, *bounds])
    inherit_source([merged], nodes[-1])
    graph.insert_before(nodes[-1], merged)
    merged.outputs[0].metadata_props.update(y.metadata_props)
    take_over(y, merged.outputs[0])
    graph.remove(list(reversed(nodes)), safe=True)
    return True


def clip_of(node: ir.Node) -> tuple[ir.Value, tuple[float, float]] | None:
    """(x, bounds) where `node` computes min(max(x, low), high) of one float x, the same bounds for all values."""
    if node.domain != "" or node.op_type not in ("Max", "Min", "Relu", "Clip"):
        return None
    computed = [value for value in node.inputs if value is not None and constant_of(value) is None]
    if len(computed) != 1 or computed[0].dtype != ir.DataType.FLOAT or len(node.inputs) > 3:
        return None
    x = computed[0]
    if shape_of(x) is None or shape_of(x) != shape_of(node.outputs[0]):
        return None
    if node.op_type == "Relu":
        return x, (0.0, np.inf)
    if node.op_type == "Clip":
        if node.inputs[0] is not x:
            return None
        given = [*node.inputs[1:], None, None]
        low, high = (_number(value, default) for value, default in zip(given[:2], UNBOUNDED, strict=True))
    else:
        numbers = [_number(value, np.nan) for value in node.inputs if value is not x]
        if len(numbers) != 1:
            return None
        low, high = (numbers[0], np.inf) if node.op_type == "Max" else (-np.inf, numbers[0])
    return (x, (low, high)) if low is not None and high is not None and low <= high else None


def _number(value: ir.Value | None, default: float) -> float | None:
    """The one number of a constant, `default` for an absent one; None where it holds several."""
    if value is None:
        return default
    array = constant_of(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
