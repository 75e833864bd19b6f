"""Repeat bits, not floats, where a map of ±1 is resized to its nearest pixels.

    Before:  S [N, C, h, w] ─ Resize(nearest) [N, C, H, W] ─ Conv ─ y        Before:  x ─ Resize(nearest) ─ Sign ─ y
    After:   S ─ Gather(rows, axis 2) ─ Gather(columns, axis 3) ─ Conv ─ y   After:   x ─ Gather ─ Gather ─ Sign ─ y

Every pixel of the result is one of the map's, whichever coordinates and rounding the Resize has: ONNX Runtime says
which, of a map that holds its own positions.  TensorFlow Lite's kernels resize no words of bits; GATHER moves them,
below the sign as well (`sink_moves`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.evaluate import run
from bnncc.ir.graph import constant_of, new_constant, replace_node, shape_of, sole_consumer
from bnncc.passes.binary_operand import binary_operand
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert
from bnncc.passes.weighted_layer import is_read_by_layer

Positions = npt.NDArray[np.int64]


class GatherBits(ir.passes.InPlacePass):
    """Rewrite every nearest Resize of H and W (or L) between a binariser and a layer with weights, in either order."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        opset = model.opset_imports.get("") or 1
        return ir.passes.PassResult(
            model, modified=rewrite_each(model.graph, lambda graph, node: _rewrite(graph, node, opset))
        )


def _rewrite(graph: ir.Graph, node: ir.Node, opset: int) -> bool:
    if node.domain != "" or node.op_type != "Resize" or node.attributes.get_string("mode", "nearest") != "nearest":
        return False
    x, y = node.inputs[0], node.outputs[0]
    if x is None or y in graph.outputs or not _moves_bits(graph, x, y):
        return False
    positions = _positions(node, shape_of(x) or (), shape_of(y) or (), opset)
    if positions is None:
        return False
    for axis, taken in positions[:-1]:
        name, sizes = f"{y.name}/axis_{axis}", _sizes(x, axis, taken)
        x = insert(graph, _gather(graph, x, axis, taken), node, name=name, like=x, shape=sizes)
    replace_node(graph, node, _gather(graph, x, *positions[-1]))
    return True


def _moves_bits(graph: ir.Graph, x: ir.Value, y: ir.Value) -> bool:
    return is_read_by_layer(y) if binary_operand(x) is not None else ops.is_sign(sole_consumer(graph, y))


def _sizes(x: ir.Value, axis: int, taken: Positions) -> Sequence[int]:
    sizes = list(shape_of(x) or ())
    sizes[axis] = taken.size
    return sizes


def _gather(graph: ir.Graph, x: ir.Value, axis: int, taken: Positions) -> ir.Node:
    return ir.node("Gather", [x, new_constant(graph, taken, f"{x.name}/positions")], {"axis": axis})


def _positions(
    node: ir.Node, shape: Sequence[int], target: Sequence[int], opset: int
) -> list[tuple[int, Positions]] | None:
    """(axis, the positions that the result takes along it) of every axis behind the channels that is resized; None
    where the Resize does something else, or its sizes are computed.
    """
    constants = {
        f"constant_{index}": constant_of(value)
        for index, value in enumerate(node.inputs)
        if index > 0 and value is not None
    }
    if len(shape) not in (3, 4) or tuple(shape[:2]) != tuple(target[:2]):
        return None
    if any(array is None for array in constants.values()) or _crops(node):
        return None
    names = [f"constant_{index}" if value is not None else "" for index, value in enumerate(node.inputs)]
    resize = onnx.helper.make_node("Resize", ["x", *names[1:]], ["y"])
    resize.attribute.extend(ir.serde.serialize_node(node).attribute)
    graph = onnx.helper.make_graph(
        [resize],
        "positions",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items() if array is not None],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    found = []
    for axis in range(2, len(shape)):
        along = [1] * len(shape)
        along[axis] = -1
        own = np.broadcast_to(np.arange(shape[axis], dtype=np.float32).reshape(along), shape)
        result = run(model, {"x": np.ascontiguousarray(own)})["y"]
        taken = np.moveaxis(result, axis, 0).reshape(target[axis], -1)[:, 0].astype(np.int64)
        if not np.array_equal(taken, np.arange(shape[axis])):
            found.append((axis, taken))
    return found or None


def _crops(node: ir.Node) -> bool:
    """Beyond a crop there are pixels of no map."""
    return node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
