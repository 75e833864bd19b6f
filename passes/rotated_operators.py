"""How operators without windows compute on maps rotated by 180°.

    rot(f(x)) = f'(rot(x))        f' = f for what works on each position, or along the channels, alone

    Slice(start a, step s)        starts where the rotated map holds the last position that it took
    Pad(before, after)            (after, before) on H and W
    Resize                        where its sampling positions are symmetric about the map's centre
    GlobalAveragePool, …          f(rot(x)) = f(x)

Windows of convolutions and pools are `Window.mirrored()`.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, new_constant, shape_of
from bnncc.ir.value_facts import reduced_axes

# Operators that work on each position alone, with broadcasting operands.
ELEMENTWISE = {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum", "PRelu", "Where", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "Equal", "And", "Or", "Not", "Neg", "Abs", "Sqrt", "Exp", "Log", "Reciprocal", "Floor", "Ceil",
    "Round", "Sign", "Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Elu", "Selu",
    "Celu", "Softplus", "Erf", "Gelu", "Mish", "Cast", "DequantizeLinear", "BatchNormalization", "Identity", "Dropout",
}  # fmt: skip

# Operators with an `axis` attribute that commute with the rotation while that axis is not H or W.
ALONG_AXIS = {"Concat", "Split", "Gather", "Softmax", "LogSoftmax", "ArgMax"}

REDUCTIONS = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"}

GLOBAL_POOLS = {"GlobalAveragePool", "GlobalMaxPool"}

SPATIAL_AXES = (2, 3)

# Of the above, those whose other inputs are per-channel vectors, bounds, axes or indices rather than operands.
FIRST_INPUT_HOLDS_MAP = {
    "BatchNormalization",
    "Clip",
    "Dropout",
    "Slice",
    "Pad",
    "Resize",
    "Split",
    "Gather",
    "Tile",
    *REDUCTIONS,
}


def is_global(node: ir.Node) -> bool:
    """True where the node reduces both H and W completely, which the rotation does not change."""
    if node.domain != "":
        return False
    return node.op_type in GLOBAL_POOLS or (node.op_type in REDUCTIONS and set(SPATIAL_AXES) <= reduced_axes(node, 4))


def _commutes(graph: ir.Graph, node: ir.Node) -> bool:
    if ops.is_sign(node):
        return True
    if node.domain == "" and node.op_type in ELEMENTWISE:
        # An operand of lower rank that is computed and varies over H or W would need a rotation of its own kind.
        return all(
            value is None
            or constant_of(value) is not None
            or len(shape_of(value) or ()) == 4
            or not varies_over_map(value)
            for value in node.inputs
        ) and all(len(shape_of(value) or ()) == 4 for value in node.outputs)
    if node.domain != "":
        return False
    if node.op_type in ALONG_AXIS:
        default = 0 if node.op_type in ("Concat", "Split", "Gather", "ArgMax") else -1
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else default
        return axis % 4 not in SPATIAL_AXES and all(len(shape_of(value) or ()) == 4 for value in node.outputs)
    if node.op_type in REDUCTIONS:
        keeps = node.attributes["keepdims"].as_int() if "keepdims" in node.attributes else 1
        return keeps == 1 and not reduced_axes(node, 4) & set(SPATIAL_AXES)
    if node.op_type == "Pad":
        return _swap_pad(graph, node)
    if node.op_type == "Tile":
        repeats = constant_of(node.inputs[1])
        return repeats is not None and len(repeats) == 4 and all(repeats[axis] == 1 for axis in SPATIAL_AXES)
    return node.op_type == "Resize" and _resizes_symmetrically(node)


def rotate_operator(graph: ir.Graph, node: ir.Node) -> bool:
    """Let an operator without windows work on rotated maps, its constants changed where it takes that; False where that
    cannot be.
    """
    if node.domain == "" and node.op_type == "Slice":
        return _rotate_slice(graph, node)
    return _commutes(graph, node)


def _rotate_slice(graph: ir.Graph, node: ir.Node) -> bool:
    """x[…, a:b:s, …] with s > 0 reads a, a + s, … a + (m - 1)·s; rotated, it starts at n - 1 - (a + (m - 1)·s)."""
    arrays = [constant_of(value) for value in node.inputs[1:]]
    shape, result = shape_of(node.inputs[0]) if node.inputs[0] else None, shape_of(node.outputs[0])
    if any(array is None for array in arrays) or shape is None or result is None or len(shape) != 4:
        return False
    rank = len(shape)
    starts, ends = ([int(entry) for entry in array] for array in arrays[:2] if array is not None)
    axes = (
        [int(axis) % rank for axis in arrays[2]] if len(arrays) > 2 and arrays[2] is not None else [*range(len(starts))]
    )
    steps = [int(step) for step in arrays[3]] if len(arrays) > 3 and arrays[3] is not None else [1] * len(starts)
    if any(step <= 0 for step in steps):
        return False
    for index, axis in enumerate(axes):
        if axis in SPATIAL_AXES:
            size = shape[axis]
            start = min(max(starts[index] + (size if starts[index] < 0 else 0), 0), size)
            last = start + (result[axis] - 1) * steps[index]
            starts[index], ends[index] = size - 1 - last, size - start
    name = node.outputs[0].name
    node.resize_inputs(5)
    for position, entries in enumerate((starts, ends, axes, steps), start=1):
        node.replace_input_with(position, new_constant(graph, np.asarray(entries, np.int64), f"{name}/slice"))
    return True


def _swap_pad(graph: ir.Graph, node: ir.Node) -> bool:
    amounts = constant_of(node.inputs[1])
    axes = constant_of(node.inputs[3]) if len(node.inputs) > 3 else None
    if amounts is None or (len(node.inputs) > 3 and node.inputs[3] is not None and axes is None):
        return False
    count = len(amounts) // 2
    along = [int(axis) % 4 for axis in (axes if axes is not None else range(count))]
    swapped = amounts.copy()
    for index, axis in enumerate(along):
        if axis in SPATIAL_AXES:
            swapped[index], swapped[index + count] = amounts[index + count], amounts[index]
    node.replace_input_with(1, new_constant(graph, swapped, f"{node.outputs[0].name}/pads"))
    return True


def varies_over_map(value: ir.Value) -> bool:
    """True where `value`, broadcast to four axes, may differ between the positions of a map."""
    shape = shape_of(value)
    return shape is None or any(size > 1 for size in shape[-2:])


def _resizes_symmetrically(node: ir.Node) -> bool:
    """True for the resizes whose sampling positions are symmetric about the map's centre."""
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
    transform = "half_pixel"
    if "coordinate_transformation_mode" in node.attributes:
        transform = node.attributes["coordinate_transformation_mode"].as_string()
    shape, result = shape_of(node.inputs[0]) if node.inputs[0] else None, shape_of(node.outputs[0])
    if shape is None or result is None:
        return False
    # A given factor places the samples, and the size is rounded down: only where nothing is lost are they symmetric.
    scales = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is not None and scales.size:
        axes = slice(-scales.size, None)
        if not np.array_equal(scales * shape[axes], result[axes]):
            return False
    if mode == "linear":
        # Of one sample, these two take the first position.
        single_is_first = transform in ("pytorch_half_pixel", "align_corners")
        return transform == "half_pixel" or (single_is_first and all(size > 1 for size in result[2:]))
    whole = all(b % a == 0 for a, b in zip(shape, result, strict=True))
    rounding = (
        node.attributes["nearest_mode"].as_string() if "nearest_mode" in node.attributes else "round_prefer_floor"
    )
    symmetric = transform == "half_pixel" or (transform == "asymmetric" and rounding == "floor")
    return mode == "nearest" and symmetric and whole
