"""Resize by constant matrices: cubic, antialiased and cropping interpolations are linear in each axis.

    y = x·Mᵀ (+ b) along an axis of n positions, M [m, n]: row j holds the weights of output j

M is what ONNX Runtime makes of the identity; b, what it makes of zeros, is the value beyond a crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from bnncc.ir.evaluate import run
from bnncc.passes.decompositions.builder import Array, Builder, NotDecomposableError


def resize(build: Builder) -> Sequence[ir.Value | None]:
    """As matrices where nearest and linear kernels do not reach; a policy for sizes becomes scales."""
    x = build.input(0)
    shape, target = build.shape(x), build.shape(build.origin.outputs[0])
    axes = [axis % len(shape) for axis in build.integers("axes", range(len(shape)))]
    policy = build.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        return [_by_scales(build, axes, policy)]
    crops = build.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    if build.text("mode", "nearest") != "cubic" and not build.integer("antialias", 0) and not crops:
        raise NotDecomposableError
    scales = build.array(2, "scales").tolist() if _is_given(build, 2) else None
    region = build.array(1, "roi").reshape(2, len(axes)) if crops else np.array([[0], [1]] * len(axes)).reshape(2, -1)
    for position, axis in enumerate(axes):
        scale = target[axis] / shape[axis] if scales is None else scales[position]
        if scale == 1 and shape[axis] == target[axis] and not crops:
            continue
        matrix, beyond = _matrix(
            build, shape[axis], target[axis], None if scales is None else scale, region[:, position]
        )
        order = [*(other for other in range(len(shape)) if other != axis), axis]
        moved = build.op("MatMul", build.transpose(x, order), build.constant(matrix.T))
        if np.any(beyond):
            moved = build.op("Add", moved, build.constant(beyond))
        x = build.transpose(moved, np.argsort(order).tolist())
    return [x]


def _is_given(build: Builder, index: int) -> bool:
    value = build.optional(index)
    return value is not None and 0 not in build.shape(value)


def _by_scales(build: Builder, axes: Sequence[int], policy: str) -> ir.Value:
    """One scale for all axes: the smallest, or largest, that the given sizes ask for."""
    x, sizes = build.input(0), build.array(3, "sizes")
    shape = build.shape(x)
    quotients = [float(size) / shape[axis] for size, axis in zip(sizes, axes, strict=True)]
    scale = min(quotients) if policy == "not_larger" else max(quotients)
    scales = np.ones(len(shape), np.float32)
    scales[list(axes)] = scale
    kept = {
        name: attribute.value
        for name, attribute in build.origin.attributes.items()
        if name not in ("keep_aspect_ratio_policy", "axes")
    }
    result = build.op("Resize", x, None, build.constant(scales), **kept)
    if build.shape(result) != build.shape(build.origin.outputs[0]):
        # The specification rounds the sizes, a Resize by scales cuts.
        raise NotDecomposableError(f"keep_aspect_ratio_policy {policy} with sizes that are rounded up")
    return result


def _matrix(build: Builder, size: int, target: int, scale: float | None, region: Array) -> tuple[Array, Array]:
    """(M [target, size], b [target]) of one axis, that of W in a map [1, 1, rows, size]."""
    node = ir.serde.serialize_node(build.origin)
    attributes = [
        attribute for attribute in node.attribute if attribute.name not in ("axes", "keep_aspect_ratio_policy")
    ]
    resize_node = onnx.helper.make_node("Resize", ["x", "roi", "scales", "sizes" if scale is None else ""], ["y"])
    resize_node.attribute.extend(attributes)
    rows = np.concatenate([np.zeros((1, size)), np.eye(size)]).astype(np.float32)[None, None]
    roi = np.array([0, 0, 0, region[0], 1, 1, 1, region[1]], np.float32)
    constants = {"roi": roi, "scales": np.array([] if scale is None else [1, 1, 1, scale], np.float32)}
    if scale is None:
        constants["sizes"] = np.array([1, 1, size + 1, target], np.int64)
    graph = onnx.helper.make_graph(
        [resize_node],
        "axis",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, rows.shape)],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", build.opset)]
    try:
        results = run(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), {"x": rows})["y"][0, 0]
    except Exception as error:  # ONNX Runtime's own errors have no common base class
        raise NotDecomposableError("an interpolation that ONNX Runtime does not compute") from error
    if results.shape != (size + 1, target):
        raise NotDecomposableError(f"the graph declares {target} positions, the scale gives {results.shape[-1]}")
    return (results[1:] - results[0]).T, results[0]


DECOMPOSITIONS = {"Resize": resize}
