"""Remove nodes that hand their input on unchanged.

Before:  x ─ Identity ─ Dropout ─ Cast(float32 → float32) ─ Expand(to its own shape) ─ y
After:   x ─ y

Before:  x [N, C, H, W] ─ Reshape(flat) ─ Reshape(to [N, C, H, W]) ─ y
After:   x ─ y

Before:  x [N, C, 1, 1] ─ Expand(to [N, C, H, W]) ─ Add(u [N, C, H, W]) ─ y          (expand_as, or repeat: a Tile)
After:   x ─ Add(u) ─ y
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import bypass, constant_of, shape_of
from bnncc.passes.each_node import rewrite_each

# Operators that keep every element in its place: no-ops as soon as the shape does not change either.
REPEATING = {"Expand", "Tile"}
SHAPE_ONLY = REPEATING.union(RESHAPES)
# Operators of two operands that broadcast themselves.
BROADCASTING = {"Add", "Sub", "Mul", "Div"}


class DropNoOps(ir.passes.InPlacePass):
    """Identity, inference Dropout, casts to the same type, shape changes to the same shape, transposes that keep the
    order, pads by nothing, concatenations of one tensor or with tensors without elements."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _drop))


def _drop(graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain != "":
        return False
    dropped = node.op_type == "Concat" and _drop_empty_operands(node)
    dropped |= node.op_type in RESHAPES and _skip_other_shapes(node)
    return (_passes_on(node) and _bypass(graph, node)) or dropped


def _drop_empty_operands(node: ir.Node) -> bool:
    """A Concat without those of its operands that have no elements, if others do."""
    shapes = [None if value is None else shape_of(value) for value in node.inputs]
    kept = [value for value, shape in zip(node.inputs, shapes, strict=True) if shape is None or 0 not in shape]
    if not kept or len(kept) == len(node.inputs):
        return False
    for index, value in enumerate(kept):
        node.replace_input_with(index, value)
    node.resize_inputs(len(kept))
    return True


def _skip_other_shapes(node: ir.Node) -> bool:
    """Let a Reshape read what had its result's shape before other Reshapes."""
    shape, source = shape_of(node.outputs[0]), node.inputs[0]
    while source is not None and shape is not None and shape_of(source) != shape:
        before = source.producer()
        if before is None or before.domain != "" or before.op_type not in RESHAPES:
            return False
        source = before.inputs[0]
    if source is None or shape is None or source is node.inputs[0]:
        return False
    node.replace_input_with(0, source)
    return True


def _passes_on(node: ir.Node) -> bool:
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        training = node.inputs[2] if len(node.inputs) > 2 else None
        return not node.outputs[1:] and (training is None or constant_of(training) == np.False_)
    if node.op_type in ("Cast", "CastLike"):
        return source.dtype is not None and source.dtype == node.outputs[0].dtype
    if node.op_type in SHAPE_ONLY:
        shape = shape_of(source)
        return shape is not None and (shape == shape_of(node.outputs[0]) or _is_broadcast_anyway(node, shape))
    if node.op_type == "Transpose":
        order = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
        return order is not None and list(order) == sorted(order)
    if node.op_type == "Pad":
        amounts = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        return amounts is not None and not amounts.any()
    return node.op_type == "Concat" and len(node.inputs) == 1


def _is_broadcast_anyway(node: ir.Node, shape: tuple[int, ...]) -> bool:
    """True for an Expand of a computed value all of whose readers broadcast it against a value of its result's shape,
    and for a Tile along axes of size 1, which is an Expand.

    (The Expand of a constant becomes a constant.)
    """
    result = node.outputs[0]
    expanded = shape_of(result)
    if node.op_type not in REPEATING or constant_of(node.inputs[0]) is not None or result.is_graph_output():
        return False
    if expanded is None or len(shape) != len(expanded) or not result.uses():
        return False
    if any(size not in (1, repeated) for size, repeated in zip(shape, expanded, strict=True)):
        return False
    readers = {use.node for use in result.uses()}
    return all(
        reader.domain == ""
        and reader.op_type in BROADCASTING
        and any(value is not None and value is not result and shape_of(value) == expanded for value in reader.inputs)
        for reader in readers
    )


def _bypass(graph: ir.Graph, node: ir.Node) -> bool:
    """Let the consumers read the node's input."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    if source.shape is None:
        source.shape = result.shape
    return bypass(graph, result, source)
