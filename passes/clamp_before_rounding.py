"""Clamp first and round then, so that what is rounded has few results.

    Before:  x ─ Div(α) ─ Round ─ Max(0) ─ Min(1) ─ Mul(α) ─ Conv ─ y
    After:   x ─ Div(α) ─ Max(0) ─ Min(1) ─ Round ─ Mul(α) ─ Conv ─ y

A rounding is monotone and keeps whole numbers: max(round(x), n) = round(max(x, n)) for every whole n, to the bit.
Quantisers with a learnt step (Esser et al., Learned Step Size Quantization, 2020, equation 1) are written either way.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import shape_of, sole_consumer, take_over
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import number_or_array
from bnncc.passes.insertion import insert, insert_copy
from bnncc.passes.kept_order import ROUNDINGS

CLAMPS = ("Max", "Min", "Clip", "Relu")


class ClampBeforeRounding(ir.passes.InPlacePass):
    """Move every clamp to whole numbers in front of the rounding that only it reads."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in CLAMPS or len(node.inputs) > (3 if node.op_type == "Clip" else 2):
        return False
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


def _is_rounded(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    return node is not None and node.domain == "" and node.op_type in ROUNDINGS


def _is_whole(value: ir.Value) -> bool:
    array = number_or_array(value)
    return array is not None and array.dtype.kind == "f" and bool(np.all(array == np.rint(array)))
