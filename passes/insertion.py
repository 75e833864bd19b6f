"""Put a node into a graph: it needs a name, a shape and a type for its output, the source line and its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import inherit_source, new_constant, take_over


def insert(
    graph: ir.Graph,
    node: ir.Node,
    before: ir.Node,
    *,
    name: str,
    like: ir.Value,
    shape: Sequence[int] | None = None,
    origin: ir.Node | None = None,
) -> ir.Value:
    """Put `node` in front of `before`; returns its first output, called `name`.

    It has the type of `like`, and its shape where no other is given.  The source line is that of `origin`, or `before`.
    """
    result = node.outputs[0]
    result.name, result.type = name, like.type
    result.shape = like.shape if shape is None else ir.Shape(shape)
    inherit_source([node], before if origin is None else origin)
    graph.insert_before(before, node)
    return result


def insert_reshape(graph: ir.Graph, x: ir.Value, shape: Sequence[int], name: str, before: ir.Node) -> ir.Value:
    """Put a Reshape of `x` in front of `before`."""
    node = ir.node("Reshape", [x, new_constant(graph, np.asarray(shape, np.int64), f"{name}/shape")])
    return insert(graph, node, before, name=name, like=x, shape=shape)


def insert_copy(
    graph: ir.Graph, node: ir.Node, sources: Sequence[ir.Value | None], before: ir.Node, suffix: str
) -> Sequence[ir.Value]:
    """Put a copy of `node` that reads `sources` as its first inputs in front of `before`; returns its outputs.

    They are called as those of `node`, with a suffix, and have their shapes and types, and its source line.
    """
    inputs = [*sources, *node.inputs[len(sources) :]]
    copy = ir.node(node.op_type, inputs, dict(node.attributes), num_outputs=len(node.outputs))
    for old, new in zip(node.outputs, copy.outputs, strict=True):
        new.name, new.shape, new.type = f"{old.name}/{suffix}", old.shape, old.type
    inherit_source([copy], node)
    graph.insert_before(before, copy)
    return copy.outputs


def add_behind(graph: ir.Graph, node: ir.Node, constant: npt.NDArray[np.float32], suffixes: tuple[str, str]) -> None:
    """Put an Add of `constant` behind `node`, in the name of whose output it stands.

    suffixes: what the constant and the output of `node` are called, behind the name that the sum takes over.
    """
    y = node.outputs[0]
    add = ir.node("Add", [y, new_constant(graph, constant, f"{y.name}/{suffixes[0]}")])
    inherit_source([add], node)
    graph.insert_after(node, add)
    take_over(y, add.outputs[0])
    add.outputs[0].metadata_props.update(y.metadata_props)
    add.replace_input_with(0, y)
    y.name = f"{add.outputs[0].name}/{suffixes[1]}"


def replace_by_layer(graph: ir.Graph, node: ir.Node, layer: ir.Value, result: ir.Value) -> None:
    """Let `result`, computed in front of `node` from the new `layer`, stand for what `node` yields; remove `node`.

    The layer is reported by the name of `node`'s output, which it takes over unless that is the graph's.
    """
    name, spare = node.outputs[0].name, result.name
    take_over(node.outputs[0], result)
    graph.remove(node, safe=True)
    if result is not layer and result not in graph.outputs:
        result.name, layer.name = spare, name
