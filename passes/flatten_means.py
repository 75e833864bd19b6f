"""Let a mean over a map yield what the Linear behind it reads, without a Reshape between them.

    Before:  x [N, C, H, W] ─ GlobalAveragePool ─ [N, C, 1, 1] ─ Flatten ─ y [N, C]
    After:   x [N, C, H, W] ─ ReduceMean(2, 3; keepdims = 0) ─ y [N, C]

What is left of the map is one value a channel, in the same order with and without the axes of size 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import constant_of, inherit_source, new_constant, replace_node, shape_of, sole_consumer
from bnncc.passes.each_node import rewrite_each

# Since this opset the axes of a ReduceMean, and of all reductions, are an input.
AXES_ARE_INPUT_SINCE = 18


class FlattenMeans(ir.passes.InPlacePass):
    """Rewrite every Reshape, Flatten or Squeeze of [N, C, 1, …] to [N, C] behind a mean that nothing else reads."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    x = node.inputs[0] if node.domain == "" and node.op_type in RESHAPES else None
    mean = x.producer() if x is not None else None
    if x is None or mean is None or sole_consumer(graph, x) is None:
        return False
    source, shape, result = mean.inputs[0], shape_of(x), shape_of(node.outputs[0])
    size = shape_of(source) if source is not None else None
    if source is None or shape is None or size is None or result != shape[:2] or len(shape) < 3:
        return False
    if any(length != 1 for length in shape[2:]) or size[:2] != shape[:2] or not is_mean_of_map(mean, len(size)):
        return False
    axes = np.arange(2, len(size))
    if graph.opset_imports.get("", AXES_ARE_INPUT_SINCE) >= AXES_ARE_INPUT_SINCE:
        operand = new_constant(graph, axes.astype(np.int64), f"{node.outputs[0].name}/axes")
        flat = ir.node("ReduceMean", [source, operand], {"keepdims": 0})
    else:
        flat = ir.node("ReduceMean", [source], {"keepdims": 0, "axes": axes.tolist()})
    inherit_source([flat], mean)
    replace_node(graph, node, flat)
    graph.remove(mean, safe=True)
    return True


def is_mean_of_map(node: ir.Node, rank: int) -> bool:
    """True for a mean over all of the axes behind the channels, of a value of that rank."""
    if node.domain != "" or node.op_type not in ("GlobalAveragePool", "AveragePool", "ReduceMean"):
        return False
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type == "AveragePool":
        size = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
        window = tuple(node.attributes["kernel_shape"].as_ints())
        padded = "pads" in node.attributes and any(node.attributes["pads"].as_ints())
        return size is not None and len(size) == rank and window == size[2:] and not padded
    if len(node.inputs) > 1:
        array = constant_of(node.inputs[1])
        axes = None if array is None else array.reshape(-1).tolist()
    else:
        axes = list(node.attributes["axes"].as_ints()) if "axes" in node.attributes else None
    return axes is not None and {int(axis) % rank for axis in axes} == set(range(2, rank))
