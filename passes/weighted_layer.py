"""Read Conv (one- and two-dimensional), Gemm and MatMul as one kind of layer.

    y[o] = α · Σ_i W[o, i] · x[i] + b[o]        filters W [O, C/group, …] of a Conv, [O, I] of a Linear

    Conv(x, W, b)              W as it is
    Gemm(x, B, c; α, β)        W = B where transB is 1, else Bᵀ;  b = β·c
    MatMul(x, B)               W = Bᵀ

It answers for the constants of one node; what they are multiplied by is `binary_operand`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import FIRST_INPUT_ONLY
from bnncc.passes.affine import Vector
from bnncc.passes.binary_operand import BinaryOperand

LAYERS = {"Conv", "Gemm", "MatMul"}


def geometry_of(node: ir.Node, filters: npt.NDArray[np.generic], size: tuple[int, ...]) -> ops.ConvGeometry:
    """Strides, dilations, pads and group; those of one axis as (1, n)."""
    if node.op_type != "Conv":
        return ops.ConvGeometry()
    if filters.ndim == 4:
        return ops.ConvGeometry.of(node, filters.shape[2:], size[2:])
    group = node.attributes.get_int("group", 1)
    stride, dilation = (
        int(node.attributes[key].as_ints()[0]) if key in node.attributes else 1 for key in ("strides", "dilations")
    )
    flat = {"strides": ir.AttrInt64s("strides", [1, stride]), "dilations": ir.AttrInt64s("dilations", [1, dilation])}
    if "auto_pad" in node.attributes:
        flat["auto_pad"] = node.attributes["auto_pad"]
    if "pads" in node.attributes:
        before, after = node.attributes["pads"].as_ints()
        flat["pads"] = ir.AttrInt64s("pads", [0, before, 0, after])
    flat["group"] = ir.AttrInt64("group", group)
    same_geometry = ir.Node("", "Conv", [], flat.values(), num_outputs=1)
    return ops.ConvGeometry.of(same_geometry, (1, filters.shape[2]), (1, size[2]))


def scale_inputs(
    node: ir.Node, operand: BinaryOperand, filters: npt.NDArray[np.generic], group: int
) -> npt.NDArray[np.generic] | None:
    """The filters [O, C/group, …] times the magnitude of the scale of the input channel that each reads."""
    if np.all(np.abs(operand.affine.scale) == 1):
        return filters
    magnitude = scale_of_inputs(node, operand, filters, group)
    return None if magnitude is None else filters.astype(np.float64) * magnitude


def scale_of_inputs(
    node: ir.Node, operand: BinaryOperand, filters: npt.NDArray[np.generic], group: int
) -> npt.NDArray[np.float64] | None:
    """The magnitude of the scale of the input channel that each weight reads, to be broadcast to the filters."""
    return per_weight(node, operand, np.abs(operand.affine.scale), filters, group)


def sum_of_offsets(node: ir.Node, operand: BinaryOperand, filters: npt.NDArray[np.generic], group: int) -> Vector:
    """Σ W·offset [O]: what the input's offset adds to the output."""
    if not np.any(operand.affine.shift):
        return np.zeros(filters.shape[0])
    offset = per_weight(node, operand, operand.affine.shift, filters, group)
    assert offset is not None
    total: Vector = (filters.astype(np.float64) * offset).reshape(filters.shape[0], -1).sum(axis=1)
    return total


def per_weight(
    node: ir.Node, operand: BinaryOperand, vector: Vector, filters: npt.NDArray[np.generic], group: int
) -> npt.NDArray[np.float64] | None:
    """A vector over axis 1 of the input, for each weight that reads it."""
    if node.op_type == "Conv":
        channels = filters.shape[1]
        groups = vector.reshape(group, channels)
        rows = np.repeat(groups, filters.shape[0] // group, axis=0)
        return rows.reshape(filters.shape[0], channels, *(1,) * (filters.ndim - 2))
    along_features = node.op_type == "MatMul" and len(shape_of(node.inputs[0]) or () if node.inputs[0] else ()) == 2
    along_features |= node.op_type == "Gemm" and not node.attributes.get_int("transA", 0)
    if along_features:
        return vector.reshape(1, -1)
    uniform = operand.uniform
    return None if uniform is None else np.full((1, 1), vector[0])


def output_first(node: ir.Node, matrix: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The weights of a Gemm or MatMul as [O, I]; those of a product that is no Linear flattened to one axis."""
    if matrix.ndim != 2:
        return matrix.reshape(-1)
    return matrix if node.attributes.get_int("transB", 0) else matrix.T


def bias_of(node: ir.Node) -> npt.NDArray[np.float64] | None:
    """The bias [O] (or [N, O] where it differs between the rows of a Gemm); None where it is no constant."""
    channels = (shape_of(node.outputs[0]) or (0,))[1 if node.op_type == "Conv" else -1]
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None:
        return np.zeros(channels)
    array = constant_of(given)
    if array is None:
        return None
    bias = array.astype(np.float64) * node.attributes.get_float("beta", 1.0)
    if bias.ndim == 2 and bias.shape[0] > 1:
        return bias
    return np.broadcast_to(bias.reshape(-1), (channels,))


def has_filters(node: ir.Node) -> bool:
    """True for a Conv or BinaryConv [N, C, H, W] of one group whose weights are constant."""
    if not (ops.is_binary_conv(node) or (node.domain == "" and node.op_type == "Conv")):
        return False
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    constants = [constant_of(value) for value in node.inputs[1:] if value is not None]
    return group == 1 and all(array is not None for array in constants) and len(shape_of(node.outputs[0]) or ()) == 4


def is_read_by_layer(value: ir.Value) -> bool:
    """True where a layer with weights reads it, moved or padded at most."""
    for use in value.uses():
        node = use.node
        if node.domain == "" and node.op_type in LAYERS:
            return True
        if node.domain == "" and node.op_type in FIRST_INPUT_ONLY and any(map(is_read_by_layer, node.outputs)):
            return True
    return False
