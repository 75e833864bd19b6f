"""The windows of a convolution or pool node, whatever way its attributes describe them."""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.ir.graph import shape_of

POOLS = {"MaxPool", "AveragePool"}


def is_windowed(node: ir.Node) -> bool:
    """True for a two-dimensional Conv, MaxPool or AveragePool, and for bnncc's binary ones."""
    if ops.takes_bits(node):
        return True
    shape = shape_of(node.inputs[0]) if node.inputs and node.inputs[0] is not None else None
    return node.domain == "" and node.op_type in POOLS | {"Conv"} and shape is not None and len(shape) == 4


def windows_of(node: ir.Node) -> tuple[Window, Window] | None:
    """The windows of the height and the width axis; None where a shape is unknown or not four-dimensional.

    `end` is what the windows really reach, so that ceil_mode needs no case of its own.
    """
    x = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    y = shape_of(node.outputs[0])
    if x is None or y is None or len(x) != 4:
        return None
    if node.op_type in POOLS or ops.is_binary_max_pool(node):
        kernel = [int(size) for size in node.attributes["kernel_shape"].as_ints()]
    else:
        weight = shape_of(node.inputs[1]) if node.inputs[1] is not None else None
        if weight is None:
            return None
        kernel = list(weight[2:])
    height, width = ops.ConvGeometry.of(node, kernel, x[2:]).windows(kernel, x[2:])
    return _reaching(height, y[2]), _reaching(width, y[3])


def _reaching(window: Window, outputs: int) -> Window:
    """The same window with the padding after the data that yields `outputs` outputs exactly."""
    end = (outputs - 1) * window.stride - window.begin + window.extent - window.size
    return Window(window.size, window.kernel, window.stride, window.dilation, window.begin, end)
