"""Let a binary convolution yield its channels in the order that DEPTH_TO_SPACE takes them in.

    Before:  x ─ BinaryConv(s [b²·C, …]; m, β) ─ pixel_shuffle ─ BatchNormalization [C] ─ y
    After:   x ─ BinaryConv(s[order]; m[order], β[order]) ─ Mul ─ Add ─ DepthToSpace(DCR) ─ y      folded next

pixel_shuffle, exported as [N, C·b², h, w] → [N, C, b, b, h, w] → [N, C, h, b, w, b] → [N, C, h·b, w·b], takes channel c
of pixel (r, q) of a block from channel c·b² + r·b + q.  DEPTH_TO_SPACE takes it from (r·b + q)·C + c, so that whole
pixels are copied.  The filters are put in that order once and for all.

What works on each channel alone behind the shuffle (and behind slices of the map) then goes in front of it, its
constants repeated b² times, where `fold-affine` makes it part of the convolution.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import (
    OUTPUT_CHANNELS_KEY,
    constant_of,
    new_constant,
    replace_node,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.passes.affine import Affine, affine_of
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert
from bnncc.passes.traced import choose_channels

# [N, C, b, b, h, w] → [N, C, h, b, w, b]
SHUFFLE = [0, 1, 4, 2, 5, 3]
SPATIAL_AXES = {2, 3}


class CarryPixelShuffle(ir.passes.InPlacePass):
    """Rewrite every pixel_shuffle that is all that reads a BinaryConv of one group."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, last: ir.Node) -> bool:
    found = _find_shuffle(graph, last)
    if found is None:
        return False
    x, block, between = found
    conv = x.producer()
    if conv is None or not ops.is_binary_conv(conv) or sole_consumer(graph, x) is None:
        return False
    if conv.attributes["group"].as_int() != 1 or any(constant_of(value) is None for value in conv.inputs[1:]):
        return False
    channels = (shape_of(x) or (0, 0))[1]
    _permute_filters(graph, conv, np.arange(channels).reshape(-1, block**2).T.reshape(-1))
    shuffle = ir.node("DepthToSpace", [x], {"blocksize": block, "mode": "DCR"})
    replace_node(graph, last, shuffle)
    graph.remove(between, safe=True)
    _carry_affines(graph, shuffle, block)
    return True


def _find_shuffle(graph: ir.Graph, last: ir.Node) -> tuple[ir.Value, int, list[ir.Node]] | None:
    """(the value that is shuffled, the block's size, the nodes in front of `last`, backwards)."""
    x = last.inputs[0] if last.inputs else None
    if last.domain != "" or x is None:
        return None
    if last.op_type == "DepthToSpace":
        mode = last.attributes.get_string("mode", "DCR")
        return (x, last.attributes["blocksize"].as_int(), []) if mode == "CRD" else None
    if last.op_type != "Reshape":
        return None
    transpose = x.producer()
    if transpose is None or transpose.domain != "" or transpose.op_type != "Transpose" or transpose.inputs[0] is None:
        return None
    if list(transpose.attributes["perm"].as_ints() if "perm" in transpose.attributes else ()) != SHUFFLE:
        return None
    first = transpose.inputs[0].producer()
    if first is None or first.domain != "" or first.op_type != "Reshape" or first.inputs[0] is None:
        return None
    if any(sole_consumer(graph, node.outputs[0]) is None for node in (first, transpose)):
        return None
    before, parts, after = (shape_of(value) for value in (first.inputs[0], first.outputs[0], last.outputs[0]))
    if before is None or parts is None or after is None or len(before) != 4:
        return None
    batch, channels, rows, columns, height, width = parts
    whole = before == (batch, channels * rows * columns, height, width)
    shuffled = after == (batch, channels, height * rows, width * columns)
    return (first.inputs[0], rows, [transpose, first]) if rows == columns and whole and shuffled else None


def _permute_filters(graph: ir.Graph, conv: ir.Node, order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    """Let output channel i of `conv` be what `order[i]` was."""
    for index, value in enumerate(conv.inputs[1:], 1):
        array = constant_of(value)
        assert array is not None
        assert value is not None
        conv.replace_input_with(index, new_constant(graph, array[order], f"{value.name}/reordered"))
    choose_channels(conv, OUTPUT_CHANNELS_KEY, order, order.size)
    conv.outputs[0].name = f"{conv.outputs[0].name}/reordered"  # it no longer holds what the traced value holds


def _carry_affines(graph: ir.Graph, shuffle: ir.Node, block: int) -> None:
    """Move the per-channel operators behind `shuffle`, and behind slices of its map, in front of it."""
    x, value = shuffle.inputs[0], shuffle.outputs[0]
    assert x is not None
    name = x.name
    total = Affine.identity((shape_of(value) or (0, 0))[1])
    passed, stale = [value], set[ir.Value]()
    while (node := sole_consumer(graph, value)) is not None:
        step = affine_of(node)
        if step is not None:
            total = total.then(step[1])
            take_over(node.outputs[0], value)
            graph.remove(node, safe=True)
            stale.update(passed[:-1])
        elif _slices_map(node):
            value = node.outputs[0]
            passed.append(value)
        else:
            break
    for earlier in stale:
        earlier.name = f"{earlier.name}/scaled"
    for operator, vector, unit in (("Mul", total.scale, 1.0), ("Add", total.shift, 0.0)):
        if np.any(vector != unit):
            repeated = np.tile(vector, block**2).astype(np.float32).reshape(1, -1, 1, 1)
            node = ir.node(operator, [x, new_constant(graph, repeated, f"{name}/{operator.lower()}_constant")])
            x = insert(graph, node, shuffle, name=f"{name}/{operator.lower()}", like=x)
    shuffle.replace_input_with(0, x)


def _slices_map(node: ir.Node) -> bool:
    axes = constant_of(node.inputs[3]) if node.op_type == "Slice" and len(node.inputs) > 3 else None
    return node.domain == "" and axes is not None and {int(axis) % 4 for axis in axes.reshape(-1)} <= SPATIAL_AXES
