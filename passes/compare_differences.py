"""Compare the difference of two maps with 0, so that the comparison is one of a single value.

    Before:  x, y ─ GreaterOrEqual ─ Where(1, -1) ─ Conv ─ z
    After:   x, y ─ Sub ─ GreaterOrEqual(0) ─ Where(1, -1) ─ Conv ─ z

x ≥ y ⇔ x - y ≥ 0: two float32 that differ have a difference that is not 0.  (It may be one that kernels flush to 0,
below 2⁻¹²⁶, and of two equal infinities it is none.)  Then `recognize-steps` finds a sign.  It is done where what
follows leads to a layer with weights.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import new_constant, shape_of
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import number_or_array
from bnncc.passes.elementwise_operators import COMPARISONS, ELEMENTWISE
from bnncc.passes.insertion import insert
from bnncc.passes.weighted_layer import is_read_by_layer

# So many elementwise operators are followed from a comparison to a layer.
MOST_STEPS = 8


class CompareDifferences(ir.passes.InPlacePass):
    """Rewrite every comparison of two computed float maps whose result a layer reads."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in COMPARISONS or node.op_type == "Equal":
        return False
    left, right = node.inputs
    if left is None or right is None or left is right or left.dtype != ir.DataType.FLOAT:
        return False
    if number_or_array(left) is not None or number_or_array(right) is not None:
        return False
    if not _leads_to_layer(node.outputs[0], MOST_STEPS):
        return False
    name = f"{node.outputs[0].name}/difference"
    shape = shape_of(node.outputs[0])
    difference = insert(graph, ir.node("Sub", [left, right]), node, name=name, like=left, shape=shape)
    node.replace_input_with(0, difference)
    node.replace_input_with(1, new_constant(graph, np.zeros((), np.float32), f"{name}/zero"))
    return True


def _leads_to_layer(value: ir.Value, steps: int) -> bool:
    if is_read_by_layer(value):
        return True
    if not steps:
        return False
    inner = (use.node for use in value.uses() if use.node.domain == "" and use.node.op_type in ELEMENTWISE)
    return any(_leads_to_layer(result, steps - 1) for node in inner for result in node.outputs)
