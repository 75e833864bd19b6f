"""Write a product with unfolded windows, and one whose weights come first, as the convolution that it is.

    Before:  x [N, C, H, W] ─ Gather(rows) ─ Gather(columns) ─ Transpose ─ Reshape ─ u [N, C·KH·KW, L] ─ y = W u
    After:   x ─ Conv(W [O, C, KH, KW]) ─ Reshape ─ y [N, O, L]

rows[k, o] = stride · o + dilation · k is how exporters spell `F.unfold`, what pads is a Pad in front.  So does
u.transpose(1, 2) @ Wᵀ, whose result is transposed.  Where nothing was unfolded, W u is a convolution of one tap.  Only
weights of a few values are written so: they may run as bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of, new_constant, shape_of, unique_name
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert, insert_reshape, replace_by_layer
from bnncc.passes.weight_terms import takes_few_values

# [N, C, KH, OH, KW, OW], the windows behind two gathers, as [N, C, KH, KW, OH, OW].
KERNEL_FIRST = (0, 1, 2, 4, 3, 5)


@dataclass(frozen=True)
class _Windows:
    """Of `x` [N, C, H, W]: kernel, strides and dilations, and how many windows an axis has."""

    x: ir.Value
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    count: tuple[int, int]


def may_be_convolution(node: ir.Node) -> bool:
    """True for a MatMul that `FormConvolutions` looks at: one whose first operand may be weights, or that reads what
    was transposed behind gathers.
    """
    if node.domain != "" or node.op_type != "MatMul":
        return False
    left, right = node.inputs
    ranks = len(_shape(left)), len(_shape(right))
    if ranks in ((2, 3), (3, 3)) or (ranks == (2, 2) and constant_of(left) is not None):
        return True
    return _gathered(_before(left, "Transpose")) is not None


class FormConvolutions(ir.passes.InPlacePass):
    """Rewrite every such product."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if not may_be_convolution(node):
        return False
    left, right = node.inputs
    first, second = _matrix(left), _matrix(right)
    if first is not None:
        weights, data, is_transposed = first, right, False
    elif second is not None and second.ndim == 2:
        weights, data, is_transposed = second.T, _before(left, "Transpose"), True
        if data is None or _gathered(data) is None or _permutation(left) != (0, 2, 1):
            return False
    else:
        return False
    if data is None or len(_shape(data)) not in (2, 3) or constant_of(data) is not None:
        return False
    if data.dtype != ir.DataType.FLOAT or not takes_few_values(weights):
        return False
    name = node.outputs[0].name or "product"
    windows = _windows(data)
    outputs, whole = len(weights), shape_of(node.outputs[0]) or ()
    batch, inputs, length = _shape(data) if len(_shape(data)) == 3 else (1, *_shape(data))
    if windows is None:
        windows = _Windows(data, (1, 1), (1, 1), (1, 1), (1, length))
        x = insert_reshape(graph, data, (batch, inputs, 1, length), unique_name(graph, f"{name}/columns"), node)
    else:
        x = windows.x
    filters = weights.reshape(outputs, _shape(x)[1], *windows.kernel)
    attributes = {
        "kernel_shape": windows.kernel, "strides": windows.strides, "dilations": windows.dilations, "pads": (0,) * 4,
    }  # fmt: skip
    conv = ir.node("Conv", [x, new_constant(graph, filters, f"{name}/filters")], attributes)
    size = (batch, outputs, *windows.count)
    maps = insert(graph, conv, node, name=unique_name(graph, f"{name}/maps"), like=node.outputs[0], shape=size)
    rows = whole[-2:] if len(whole) == 2 else (batch, outputs, length)
    result = insert_reshape(graph, maps, rows, unique_name(graph, f"{name}/rows"), node)
    if is_transposed:
        turn = ir.node("Transpose", [result], {"perm": (0, 2, 1)})
        turned = (batch, length, outputs)
        result = insert(graph, turn, node, name=f"{name}/turned", like=node.outputs[0], shape=turned)
    replace_by_layer(graph, node, maps, result)
    return True


def _matrix(value: ir.Value | None) -> np.ndarray | None:  # type: ignore[type-arg]
    """Weights [O, I], which may be repeated for a batch; None for what is computed from inputs."""
    expanded = _before(value, "Expand")
    array = constant_of(expanded or value)
    if array is None or array.ndim not in (2, 3):
        return None
    if array.ndim == 2:
        return array
    return array[0] if np.all(array == array[:1]) else None


def _windows(unfolded: ir.Value) -> _Windows | None:
    """What `unfolded` [N, C·KH·KW, L] are the windows of."""
    columns = _gathered(unfolded)
    rows = columns.inputs[0].producer() if columns is not None and columns.inputs[0] is not None else None
    if columns is None or rows is None or rows.op_type != "Gather" or rows.inputs[0] is None:
        return None
    if rows.attributes.get_int("axis", 0) != 2 or columns.attributes.get_int("axis", 0) != 4:
        return None
    x = rows.inputs[0]
    steps = [_steps(constant_of(gather.inputs[1])) for gather in (rows, columns)]
    if len(_shape(x)) != 4 or steps[0] is None or steps[1] is None:
        return None
    kernel, strides, dilations, count = zip(steps[0], steps[1], strict=True)
    return _Windows(x, kernel, strides, dilations, count)


def _gathered(value: ir.Value | None) -> ir.Node | None:
    """The last Gather of the windows [N, C, KH, OH, KW, OW] of which `value` [N, C·KH·KW, OH·OW] is a Reshape."""
    ordered = _before(value, "Reshape")
    gathered = _before(ordered, "Transpose")
    node = gathered.producer() if gathered is not None else None
    if ordered is None or node is None or node.op_type != "Gather" or _permutation(ordered) != KERNEL_FIRST:
        return None
    batch, channels, *kernel = _shape(ordered)[:4]
    inputs = channels * kernel[0] * kernel[1]
    return node if value is not None and _shape(value)[:2] == (batch, inputs) else None


def _steps(indices: np.ndarray | None) -> tuple[int, int, int, int] | None:  # type: ignore[type-arg]
    """(taps, stride, dilation, windows) of indices [taps, windows] = stride · window + dilation · tap."""
    if indices is None or indices.ndim != 2 or not indices.size or indices[0, 0] != 0:
        return None
    taps, windows = indices.shape
    stride = int(indices[0, 1]) if windows > 1 else 1
    dilation = int(indices[1, 0]) if taps > 1 else 1
    expected = stride * np.arange(windows)[None, :] + dilation * np.arange(taps)[:, None]
    if stride < 1 or dilation < 1 or not np.array_equal(indices, expected):
        return None
    return taps, stride, dilation, windows


def _before(value: ir.Value | None, operator: str) -> ir.Value | None:
    """What the operator of this type that computes `value` reads first."""
    node = value.producer() if value is not None else None
    return node.inputs[0] if node is not None and node.domain == "" and node.op_type == operator else None


def _permutation(value: ir.Value | None) -> tuple[int, ...]:
    node = value.producer() if value is not None else None
    return tuple(node.attributes["perm"].as_ints()) if node is not None and "perm" in node.attributes else ()


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    return (shape_of(value) or ()) if value is not None else ()
