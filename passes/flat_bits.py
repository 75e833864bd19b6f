"""Where the map that a binary Linear reads is packed flat: behind the Flatten, not in front of it.

    over the map   x [N, C, H, W] ─ Sign ─ BinaryConv(s [O, C, H, W])                  H·W·⌈C / 32⌉ words a filter
    flat           x ─ Flatten ─ Sign ─ BinaryConv(s [O, C·H·W, 1, 1])                 ⌈C·H·W / 32⌉ words a filter

A word holds 32 channels of one position, so that a picture of one channel takes 32 times the words over the map.  Flat,
the floats are moved from channels last to PyTorch's order, unless there is only one channel; and bits that a binary
convolution yields would have to become floats for it: those stay as they are.
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import shape_of
from bnncc.passes.cost import FLOAT_MOVE_COST, WORD

# What stands between a binary convolution and the sign of its results.
_BETWEEN = {"Add", "BatchNormalization", "Clip", "Div", "LeakyRelu", "MaxPool", "Mul", "PRelu", "Relu", "Sub"}


def is_packed_flat(x: ir.Value, filters: int) -> bool:
    """True where the signs of `x`, floats [N, C, H, W], are better packed behind a Flatten for so many filters."""
    shape = shape_of(x)
    if shape is None or len(shape) != 4 or _comes_from_bits(x):
        return False
    _, channels, height, width = shape
    over_the_map = height * width * -(-channels // WORD)
    flat = -(-channels * height * width // WORD)
    moved = channels * height * width if channels > 1 else 0
    return filters * (over_the_map - flat) > FLOAT_MOVE_COST * moved


def _comes_from_bits(x: ir.Value) -> bool:
    """True for a binary convolution's output, behind a batch norm, a pool and the like."""
    node = x.producer()
    while node is not None and node.domain == "" and node.op_type in _BETWEEN and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return ops.is_binary_conv(node)
