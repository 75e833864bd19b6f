"""Let an operator yield copies of its channels: y[:, k] = x[:, indices[k]] computed by the operator itself.

    Before:  x ─ BinaryConv(s [O, …]; m, b) ─ PRelu(a) ─ y
    After:   x ─ BinaryConv(s[indices]; m[indices], b[indices]) ─ PRelu(a[indices]) ─ y[:, indices]

What varies along the channels is repeated, everything else stays.
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import OUTPUT_CHANNELS_KEY, constant_of, new_constant, shape_of
from bnncc.passes.insertion import insert
from bnncc.passes.replication import Indices
from bnncc.passes.traced import OF_THE_LAYER, choose_channels, hand_on


def repeated_conv(graph: ir.Graph, conv: ir.Node, indices: Indices, before: ir.Node) -> ir.Value:
    """A Conv or BinaryConv of the filters `indices`, in front of `before`."""
    inputs: list[ir.Value | None] = []
    for value in conv.inputs[1:]:
        array = constant_of(value)
        if value is None or array is None:
            inputs.append(None)
        else:
            inputs.append(new_constant(graph, array[indices], f"{value.name}/repeated"))
    copy = ir.node(conv.op_type, [conv.inputs[0], *inputs], dict(conv.attributes), domain=conv.domain)
    if ops.is_binary_conv(conv):
        hand_on(conv, copy, (*OF_THE_LAYER, OUTPUT_CHANNELS_KEY))
        choose_channels(copy, OUTPUT_CHANNELS_KEY, indices, int(indices.max()) + 1)
    else:
        copy.metadata_props.update(conv.metadata_props)
    return _insert_copy(graph, copy, conv, indices, before)


def repeated_operator(graph: ir.Graph, node: ir.Node, value: ir.Value, indices: Indices, before: ir.Node) -> ir.Value:
    """`node` on `value`, which is its own input repeated, with the constants that vary along the channels repeated."""
    channels, rank = int(indices.max()) + 1, len(shape_of(node.outputs[0]) or ())
    inputs: list[ir.Value | None] = []
    for operand in node.inputs:
        array = constant_of(operand)
        if array is None or operand is None:
            inputs.append(None if operand is None else value)
            continue
        # BatchNormalization's vectors are [C]; what broadcasts has the channels on the axis that aligns with axis 1.
        axis = 0 if node.op_type == "BatchNormalization" else array.ndim - rank + 1
        varies = 0 <= axis < array.ndim and array.shape[axis] == channels > 1
        repeated = new_constant(graph, array.take(indices, axis), f"{operand.name}/repeated") if varies else operand
        inputs.append(repeated)
    copy = ir.node(node.op_type, inputs, dict(node.attributes), num_outputs=1)
    return _insert_copy(graph, copy, node, indices, before)


def _insert_copy(graph: ir.Graph, copy: ir.Node, origin: ir.Node, indices: Indices, before: ir.Node) -> ir.Value:
    result = origin.outputs[0]
    shape = shape_of(result)
    assert shape is not None
    repeated = (shape[0], indices.size, *shape[2:])
    return insert(graph, copy, before, name=f"{result.name}/repeated", like=result, shape=repeated, origin=origin)
