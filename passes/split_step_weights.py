"""Write weights α·{0, 1} on a binary input as weights ±α/2 on that input, twice.

    Before:  x ─ Conv(W = α_o · w, w ∈ {0, 1}) ─ y
    After:   x ─ Concat(x, x) ─ Conv([α_o/2 · (2w − 1), α_o/2]) ─ y

    conv(x, α·w) = α/2 · conv(x, 2w − 1) + α/2 · conv(x, 1) = conv([x, x], [α/2·(2w − 1), α/2])

All weights of an output channel then have the magnitude |α_o|/2, so one BinaryConv computes it, exactly, on twice the
bits; batch norms and thresholds fold into it as into any other.  Float inputs stay as they are.
"""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import INPUT_CHANNELS_KEY, STEP_WEIGHTS_KEY, constant_of, new_constant, shape_of
from bnncc.passes.binary_operand import binary_operand
from bnncc.passes.binary_weights import are_steps
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert


class SplitStepWeights(ir.passes.InPlacePass):
    """Rewrite every ungrouped two-dimensional Conv of a binary input with such weights."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _split))


def _split(graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain != "" or node.op_type != "Conv" or STEP_WEIGHTS_KEY in node.metadata_props:
        return False
    x, weight = node.inputs[0], node.inputs[1]
    filters, shape = constant_of(weight), shape_of(x) if x is not None else None
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if x is None or weight is None or filters is None or shape is None or filters.ndim != 4 or group != 1:
        return False
    if not are_steps(filters) or binary_operand(x) is None:
        return False
    magnitude = np.abs(filters.astype(np.float64)).max(axis=(1, 2, 3), keepdims=True)
    scale = np.where(filters.sum(axis=(1, 2, 3), keepdims=True) < 0, -magnitude, magnitude) / 2
    halves = np.where(filters != 0, scale, -scale)
    doubled = np.concatenate([halves, np.broadcast_to(scale, filters.shape)], axis=1).astype(filters.dtype)
    name = node.outputs[0].name
    twice = ir.node("Concat", [x, x], {"axis": 1})
    doubled_shape = (shape[0], 2 * shape[1], *shape[2:])
    node.replace_input_with(0, insert(graph, twice, node, name=f"{name}/twice", like=x, shape=doubled_shape))
    node.replace_input_with(1, new_constant(graph, doubled, f"{weight.name}/halves"))
    node.metadata_props[STEP_WEIGHTS_KEY] = "1"
    node.metadata_props[INPUT_CHANNELS_KEY] = json.dumps([*range(shape[1])] * 2)
    return True
