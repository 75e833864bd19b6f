"""One Slice for one crop: exporters write a Slice for each axis of x[:, :, ::2, ::2].

    Before:  x ─ Slice(axis 2, step 2) ─ Slice(axis 3, step 2) ─ y
    After:   x ─ Slice(axes 2 and 3, steps 2) ─ y

A Slice takes the positions r of each axis; one behind it takes s of those, which are the positions r[s] of x.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.bit_moves import slice_ranges, take
from bnncc.ir.graph import new_constant, replace_node, shape_of, sole_consumer
from bnncc.passes.each_node import rewrite_each

# Before the first position: what a Slice with a negative step that includes position 0 ends on.
BEFORE_FIRST = np.iinfo(np.int64).min


class MergeSlices(ir.passes.InPlacePass):
    """Merge every Slice that only another Slice reads into that one."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _merge))


def _merge(graph: ir.Graph, second: ir.Node) -> bool:
    first = second.inputs[0].producer() if second.inputs and second.inputs[0] is not None else None
    if first is None or not (_is_slice(first) and _is_slice(second)) or sole_consumer(graph, first.outputs[0]) is None:
        return False
    x = first.inputs[0]
    outer, inner = slice_ranges(first), slice_ranges(second)
    shape = shape_of(x) if x is not None else None
    if outer is None or inner is None or shape is None:
        return False
    taken = [take(positions, chosen) for positions, chosen in zip(outer, inner, strict=True)]
    if not all(taken):
        return False  # nothing is left; where a range of nothing begins means nothing to ONNX
    axes = [axis for axis, positions in enumerate(taken) if positions != range(shape[axis])]
    columns = (
        [taken[axis].start for axis in axes],
        [taken[axis].stop if taken[axis].stop >= 0 else BEFORE_FIRST for axis in axes],
        axes,
        [taken[axis].step for axis in axes],
    )
    name = second.outputs[0].name
    operands = [
        new_constant(graph, np.array(numbers, np.int64), f"{name}/{part}")
        for part, numbers in zip(("starts", "ends", "axes", "steps"), columns, strict=True)
    ]
    replace_node(graph, second, ir.node("Slice", [x, *operands]))
    graph.remove(first, safe=True)
    return True


def _is_slice(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type == "Slice"
