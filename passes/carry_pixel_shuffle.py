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
from bnncc.passes.kept_order import must_stay
from bnncc.passes.pixel_shuffle import find_shuffle
from bnncc.passes.traced import choose_channels

SPATIAL_AXES = {2, 3}


class CarryPixelShuffle(ir.passes.InPlacePass):
    """Rewrite every pixel_shuffle that is all that reads a BinaryConv of one group."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, last: ir.Node) -> bool:
    found = find_shuffle(graph, last)
    if found is None:
        return False
    x, block = found.x, found.block
    conv = x.producer()
    if conv is None or not ops.is_binary_conv(conv) or sole_consumer(graph, x) is None:
        return False
    if conv.attributes["group"].as_int() != 1 or any(constant_of(value) is None for value in conv.inputs[1:]):
        return False
    channels = (shape_of(x) or (0, 0))[1]
    _permute_filters(graph, conv, np.arange(channels).reshape(-1, block**2).T.reshape(-1))
    shuffle = ir.node("DepthToSpace", [x], {"blocksize": block, "mode": "DCR"})
    replace_node(graph, last, shuffle)
    graph.remove(found.between, safe=True)
    _carry_affines(graph, shuffle, block)
    return True


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
        if step is not None and not must_stay(node.outputs[0], [step[1]]):
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
