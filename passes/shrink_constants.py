"""Give an elementwise constant the smallest shape that broadcasts to the same values.

    Before:  x [1, C, H, W] ─ Add(b [1, C, H, W], equal over H and W) ─ y
    After:   x [1, C, H, W] ─ Add(b [1, C, 1, 1]) ─ y

PyTorch's `expand_as` arrives as a full-size constant (62 of them, 27 MB, in a ReActNet-A); as one value a channel it
is what the folding passes look for.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import constant_of, new_constant, shape_of

Number = TypeVar("Number", bound=np.generic)

BROADCASTING = {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Where",
    "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "And", "Or",
}  # fmt: skip


class ShrinkConstants(ir.passes.InPlacePass):
    """Shrink to size 1 every axis along which a constant operand does not vary, where the other operands alone give
    the result its shape."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        changed = False
        for node in graph:
            if node.domain != "" or node.op_type not in BROADCASTING:
                continue
            for index, value in enumerate(node.inputs):
                array = constant_of(value)
                if value is None or array is None or array.ndim == 0:
                    continue
                small = shrunk(array)
                if small.shape == array.shape or not _keeps_shape(node, index):
                    continue
                node.replace_input_with(index, new_constant(graph, small, f"{value.name}/per_channel"))
                changed = True
        return ir.passes.PassResult(model, modified=changed)


def shrunk(array: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """`array` with size 1 on every axis along which it does not vary."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis) if array.shape[axis] else array
        if array.shape[axis] > 1 and np.array_equal(array, np.broadcast_to(first, array.shape)):
            array = first
    return array


def _keeps_shape(node: ir.Node, index: int) -> bool:
    """True where the result's shape comes from the operands other than `index`."""
    shapes = [shape_of(value) for position, value in enumerate(node.inputs) if position != index and value is not None]
    result = shape_of(node.outputs[0])
    if result is None or any(shape is None for shape in shapes):
        return False
    return np.broadcast_shapes(*(shape for shape in shapes if shape is not None)) == result
