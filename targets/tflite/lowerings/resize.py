"""Resize: nearest and linear interpolation, each axis on its own.

Output position i of an axis with n input positions lies at the input coordinate x(i), which depends on the node's
coordinate_transformation_mode.  TensorFlow Lite's two kernels know three such maps (their flags align_corners and
half_pixel_centers).  The map is computed here for every position and compared with the kernels'; where none is the
same, nearest becomes one GATHER an axis, and linear two GATHERs and a weighted sum, which is exact for any map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import CHANNELS_LAST
from bnncc.targets.tflite.lowerings.moves import gather
from bnncc.targets.tflite.lowerings.operands import alias, apply, input_of, integers, optional_input
from bnncc.targets.tflite.writer import Tensor

Coordinates = npt.NDArray[np.float32]
# (align_corners, half_pixel_centers) of the kernels.
_KERNEL_FLAGS = ((False, False), (False, True), (True, False))
# The first version of the kernels that knows either flag.
FLAGS_VERSION = 3
# Coordinates of the node and of a kernel agree if they differ by no more than this, times the axis's size: float32.
COORDINATE_TOLERANCE = 1e-6


def lower_resize(node: ir.Node, context: LoweringContext) -> None:
    """Interpolate along every axis whose size or scale changes."""
    x, output = input_of(node, 0), node.outputs[0]
    shape, target = context.shape(x), context.shape(output)
    mode = node.attributes.get_string("mode", "nearest")
    _reject(node, mode)
    scales = _scales(node, context, shape, target)
    axes = [axis for axis, scale in enumerate(scales) if scale != 1 or shape[axis] != target[axis]]
    if not axes:
        alias(context, output, x)
        return
    layout = CHANNELS_LAST if len(shape) == 4 else context.axes_layout(x)
    tensor, result = context.use(x, layout), context.define(output, layout)
    transformation = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    maps = {axis: _coordinates(transformation, shape[axis], target[axis], scales[axis]) for axis in axes}
    if mode == "linear":
        if len(shape) == 4 and set(axes) <= {2, 3} and _bilinear_kernel(tensor, result, maps, context):
            return
        for axis in axes:
            last = result if axis == axes[-1] else None
            tensor = _interpolate(tensor, maps[axis], layout.axis(axis, len(shape)), context, last)
        return
    rounding = node.attributes.get_string("nearest_mode", "round_prefer_floor")
    indices = {axis: _nearest(maps[axis], rounding, shape[axis]) for axis in axes}
    if len(shape) == 4 and set(axes) <= {2, 3} and _nearest_kernel(tensor, result, indices, context):
        return
    for axis in axes:
        last = result if axis == axes[-1] else None
        tensor = gather(tensor, indices[axis], layout.axis(axis, len(shape)), context, last)


def _reject(node: ir.Node, mode: str) -> None:
    if mode not in ("nearest", "linear"):
        raise UnsupportedError(f"mode {mode}")
    if node.attributes.get_int("antialias", 0):
        raise UnsupportedError("antialias")
    if node.attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedError("keep_aspect_ratio_policy")


def _scales(node: ir.Node, context: LoweringContext, shape: Sequence[int], target: Sequence[int]) -> list[np.float32]:
    """Output size / input size of every axis, as the node states it."""
    rank = len(shape)
    axes = [axis % rank for axis in node.attributes.get_ints("axes") or range(rank)]
    scales = [np.float32(1)] * rank
    if optional_input(node, 2) is not None and context.require_constant(node, 2, "scales").size:
        given = context.require_constant(node, 2, "scales").reshape(-1)
        for axis, scale in zip(axes, given, strict=True):
            scales[axis] = np.float32(scale)
    else:
        for axis in axes:
            scales[axis] = np.float32(target[axis]) / np.float32(shape[axis])
    return scales


def _coordinates(transformation: str, size: int, target: int, scale: np.float32) -> Coordinates:
    """x(i) for every output position i, by the ONNX specification, in float32 as ONNX Runtime computes it."""
    position = np.arange(target, dtype=np.float32)
    half = np.float32(0.5)
    match transformation:
        case "asymmetric":
            return position / scale
        case "half_pixel":
            return (position + half) / scale - half
        case "pytorch_half_pixel":
            return (position + half) / scale - half if target > 1 else np.zeros(1, np.float32)
        case "align_corners":
            if target == 1:
                return np.zeros(1, np.float32)
            return position * np.float32(size - 1) / np.float32(target - 1)
    raise UnsupportedError(f"coordinate_transformation_mode {transformation}")


def _nearest(coordinates: Coordinates, rounding: str, size: int) -> npt.NDArray[np.int64]:
    half = np.float32(0.5)
    match rounding:
        case "floor":
            indices = np.floor(coordinates)
        case "ceil":
            indices = np.ceil(coordinates)
        case "round_prefer_floor":
            indices = np.ceil(coordinates - half)
        case "round_prefer_ceil":
            indices = np.floor(coordinates + half)
        case _:
            raise UnsupportedError(f"nearest_mode {rounding}")
    return np.clip(indices, 0, size - 1).astype(np.int64)


def _kernel_scale(size: int, target: int, align_corners: bool) -> np.float32:
    if align_corners and target > 1:
        return np.float32(size - 1) / np.float32(target - 1)
    return np.float32(size) / np.float32(target)


def _bilinear_kernel(tensor: Tensor, result: Tensor, maps: dict[int, Coordinates], context: LoweringContext) -> bool:
    """Emit RESIZE_BILINEAR if some setting of its flags has the coordinates `maps` (of ONNX axes 2 and 3)."""
    for align_corners, half_pixel in _KERNEL_FLAGS:
        if all(_bilinear_agrees(tensor, result, axis, maps, align_corners, half_pixel) for axis in (2, 3)):
            options = schema.ResizeBilinearOptionsT()
            options.alignCorners, options.halfPixelCenters = align_corners, half_pixel
            version = FLAGS_VERSION if half_pixel else 1
            operands = [tensor, integers(context, result.shape[1:3], "size")]
            context.emit(BuiltinOperator.RESIZE_BILINEAR, operands, [result], options, version)
            return True
    return False


def _bilinear_agrees(
    tensor: Tensor, result: Tensor, axis: int, maps: dict[int, Coordinates], align_corners: bool, half_pixel: bool
) -> bool:
    size, target = tensor.shape[axis - 1], result.shape[axis - 1]
    wanted = maps.get(axis, np.arange(target, dtype=np.float32))
    offset = np.float32(0.5 if half_pixel else 0)
    position = np.arange(target, dtype=np.float32)
    given = (position + offset) * _kernel_scale(size, target, align_corners) - offset
    difference = np.abs(np.clip(wanted, 0, size - 1) - np.clip(given, 0, size - 1)).max()
    return bool(difference <= COORDINATE_TOLERANCE * size)


def _nearest_kernel(
    tensor: Tensor, result: Tensor, indices: dict[int, npt.NDArray[np.int64]], context: LoweringContext
) -> bool:
    """Emit RESIZE_NEAREST_NEIGHBOR if some setting of its flags takes the same positions (of ONNX axes 2 and 3)."""
    for align_corners, half_pixel in _KERNEL_FLAGS:
        if all(_nearest_agrees(tensor, result, axis, indices, align_corners, half_pixel) for axis in (2, 3)):
            options = schema.ResizeNearestNeighborOptionsT()
            options.alignCorners, options.halfPixelCenters = align_corners, half_pixel
            version = FLAGS_VERSION if align_corners or half_pixel else 1
            operands = [tensor, integers(context, result.shape[1:3], "size")]
            context.emit(BuiltinOperator.RESIZE_NEAREST_NEIGHBOR, operands, [result], options, version)
            return True
    return False


def _nearest_agrees(
    tensor: Tensor,
    result: Tensor,
    axis: int,
    indices: dict[int, npt.NDArray[np.int64]],
    align_corners: bool,
    half_pixel: bool,
) -> bool:
    size, target = tensor.shape[axis - 1], result.shape[axis - 1]
    wanted = indices.get(axis, np.arange(target))
    offset = np.float32(0.5 if half_pixel else 0)
    scaled = (np.arange(target, dtype=np.float32) + offset) * _kernel_scale(size, target, align_corners)
    given = np.floor(scaled + np.float32(0.5)) if align_corners else np.floor(scaled)
    return np.array_equal(wanted, np.clip(given, 0, size - 1))


def _interpolate(
    tensor: Tensor, coordinates: Coordinates, axis: int, context: LoweringContext, result: Tensor | None
) -> Tensor:
    """(1 - w)·x[l] + w·x[l + 1] along the stored `axis`, where l = ⌊x(i)⌋ and w is what remains of it."""
    size = tensor.shape[axis]
    clamped = np.clip(coordinates, 0, size - 1)
    lower = np.floor(clamped).astype(np.int64)
    weight = (clamped - lower.astype(np.float32)).astype(np.float32)
    shape = (-1, *[1] * (len(tensor.shape) - axis - 1))
    terms = []
    for indices, share in ((lower, 1 - weight), (np.minimum(lower + 1, size - 1), weight)):
        factor = context.constant(share.reshape(shape), "share")
        part = gather(tensor, indices, axis, context)
        terms.append(apply(context, BuiltinOperator.MUL, part, factor, options=schema.MulOptionsT()))
    return apply(context, BuiltinOperator.ADD, *terms, output=result, options=schema.AddOptionsT())


LOWERINGS = {"Resize": lower_resize}
