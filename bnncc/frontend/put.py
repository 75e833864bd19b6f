"""A node in front of another, in whose source line it stands."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from bnncc.ir.graph import inherit_source, unique_name


def put(
    graph: ir.Graph,
    before: ir.Node,
    op_type: str,
    inputs: list[ir.Value],
    shape: tuple[int, ...],
    dtype: ir.DataType = ir.DataType.FLOAT,
    **attributes: Any,
) -> ir.Value:
    """What a new node yields that stands in front of `before`."""
    node = ir.node(op_type, inputs, attributes)
    result = node.outputs[0]
    name = before.outputs[0].name or ""
    result.name = unique_name(graph, f"{name}/{op_type}")
    node.name = f"{before.name}{result.name.removeprefix(name)}"
    result.shape, result.type = ir.Shape(shape), ir.TensorType(dtype)
    inherit_source([node], before)
    graph.insert_before(before, node)
    return result
