"""Let a convolution read the map whose blocks of pixels became channels in front of it.

    Before:  S ─ Pad(0) [N, C, h, w] ─ pixel_unshuffle(b) [N, C·b², h/b, w/b] ─ Conv(W [O, C·b², k, k]) ─ y
    After:   S ─ Pad(0) ─ Conv(W' [O, C, b·k, b·k], stride and pads times b) ─ y

    W'[o, c, b·i + r, b·j + q] = W[o, c·b² + r·b + q, i, j]

Both multiply the same numbers.  It is done where what the unshuffle reads is binary (`binary_operand`) and what it
yields is not: the zeros around a map of odd size lie among the channels of its last blocks, where no bit says 0, and
in front of the convolution of blocks they are its own padding (`fuse_pad`).  And where the channels fill no words, so
that the blocks would be moved as floats.  Elsewhere SPACE_TO_DEPTH moves words, and what follows it is faster with its
channels in one piece (`sink_moves`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import WORD
from bnncc.ir.graph import UNSHUFFLED_KEY, constant_of, new_constant, replace_node, shape_of
from bnncc.passes.binary_operand import binary_operand
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.pixel_shuffle import find_unshuffle
from bnncc.passes.remove_unused import remove_unread


class FuseUnshuffle(ir.passes.InPlacePass):
    """Rewrite every Conv of one group behind a pixel_unshuffle of a binary map where bits need it."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, conv: ir.Node) -> bool:
    if conv.domain != "" or conv.op_type != "Conv":
        return False
    blocks, weight = conv.inputs[0], constant_of(conv.inputs[1])
    last = None if blocks is None else blocks.producer()
    found = None if last is None else find_unshuffle(graph, last)
    if blocks is None or last is None or found is None or weight is None:
        return False
    geometry = ops.ConvGeometry.of(conv, weight.shape[2:], (shape_of(blocks) or ())[2:])
    dilated = geometry.dilations != (1, 1) and weight.shape[2:] != (1, 1)
    whole_words = (shape_of(found.x) or (0, 0))[1] % WORD == 0
    if dilated or geometry.group != 1 or (whole_words and binary_operand(blocks) is not None):
        return False
    if binary_operand(found.x) is None:
        return False
    block, (filters, channels, height, width) = found.block, weight.shape
    parts = weight.reshape(filters, channels // block**2, block, block, height, width)
    joined = np.ascontiguousarray(parts.transpose(0, 1, 4, 2, 5, 3))
    kernel = joined.reshape(filters, channels // block**2, height * block, width * block)
    name = conv.inputs[1].name if conv.inputs[1] is not None else ""
    strides = (geometry.strides[0] * block, geometry.strides[1] * block)
    top, left, bottom, right = (block * pad for pad in geometry.pads)
    larger = ops.ConvGeometry(strides, (1, 1), (top, left, bottom, right))
    inputs = [found.x, new_constant(graph, kernel, f"{name}/blocks"), *conv.inputs[2:]]
    new = ir.node("Conv", inputs, {**larger.attributes(), "kernel_shape": kernel.shape[2:]})
    new.metadata_props.update(conv.metadata_props)
    new.metadata_props[UNSHUFFLED_KEY] = str(block)
    replace_node(graph, conv, new)
    remove_unread(graph, [last])
    return True
