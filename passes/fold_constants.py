"""Evaluate what depends on constants alone.

    Before:  w ─ Abs ─ ReduceMean ─┐
             w ─ Sign ──────────── Mul ─ W ─┐
             x ──────────────────────────── Conv ─ y
    After:   x ─ Conv(W) ─ y

There is no limit on size: the weights of a binary network arrive as expressions, and their values are what the passes
behind this one decide by.  The constant part of the graph is cut out and run in ONNX Runtime.  The shape of a
value is a constant too, all shapes being static, and so is a value without elements, `false and x`, and 0·x: networks
write zeros and ones of a shape as x·0 and x·0 + 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import constant_values
from bnncc.ir.graph import bypass, constant_of, set_constant, shape_of

# Operators whose result is not a function of their inputs.
NONDETERMINISTIC = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}

# By which operand a logical operator is decided, whatever the other is.
DECIDED_BY = {"And": False, "Or": True}

# How many values are computed in one run: the time in which ONNX Runtime loads a graph grows faster than the graph.
TOGETHER = 64


class FoldConstants(ir.passes.InPlacePass):
    """Replace every value that constants determine, and that a run-time node or an output uses, by an initializer."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = _fold_shapes(model.graph) | _fold_empty(model.graph) | _fold_zeros(model.graph)
        changed |= _fold_known(model)
        while _fold_zeros(model.graph):  # zeros that were computed of constants, as zeros_like
            _fold_known(model)
        changed |= _fold_decided(model.graph)
        return ir.passes.PassResult(model, modified=changed)


def _fold_known(model: ir.Model) -> bool:
    """What is computed of constants alone."""
    graph = model.graph
    changed = False
    nodes = _constant_nodes(graph)
    inside = set(nodes)
    outputs = set(graph.outputs)
    needed = [
        value
        for node in nodes
        for value in node.outputs
        if value in outputs or any(use.node not in inside for use in value.uses())
    ]
    for start in range(0, len(needed), TOGETHER):
        part = needed[start : start + TOGETHER]
        arrays = constant_values(model, part)
        for value in part:
            set_constant(graph, value, arrays[value.name or ""])
    for node in reversed(nodes):
        if not any(value.uses() or value in outputs for value in node.outputs):
            graph.remove(node, safe=True)
            changed = True
    return changed or bool(needed)


def _fold_shapes(graph: ir.Graph) -> bool:
    """Shape and Size of values of static shape, whatever computes them."""
    changed = False
    for node in list(graph):
        if node.domain == "" and node.op_type in ("Shape", "Size") and node.inputs[0] is not None:
            shape = shape_of(node.inputs[0])
            if shape is None:
                continue
            start = node.attributes["start"].as_int() if "start" in node.attributes else 0
            end = node.attributes["end"].as_int() if "end" in node.attributes else len(shape)
            array = np.asarray(shape[start:end] if node.op_type == "Shape" else np.prod(shape), np.int64)
            set_constant(graph, node.outputs[0], array)
            graph.remove(node, safe=True)
            changed = True
    return changed


def _fold_empty(graph: ir.Graph) -> bool:
    """Values without elements (`x[:, 4:4]`), whatever computes them."""
    changed = False
    for node in list(graph):
        shapes = [shape_of(value) for value in node.outputs]
        if shapes and all(shape is not None and 0 in shape for shape in shapes):
            for value, shape in zip(node.outputs, shapes, strict=True):
                assert shape is not None
                set_constant(graph, value, np.zeros(shape, (value.dtype or ir.DataType.FLOAT).numpy()))
            graph.remove(node, safe=True)
            changed = True
    return changed


def _fold_zeros(graph: ir.Graph) -> bool:
    """Products with zeros, whatever the other factor is: values are finite."""
    changed = False
    for node in list(graph):
        shape = shape_of(node.outputs[0]) if node.domain == "" and node.op_type == "Mul" else None
        arrays = [constant_of(value) for value in node.inputs] if shape is not None else []
        zeros = next((array for array in arrays if array is not None and not np.any(array)), None)
        if shape is not None and zeros is not None:
            set_constant(graph, node.outputs[0], np.zeros(shape, zeros.dtype))
            graph.remove(node, safe=True)
            changed = True
    return changed


def _fold_decided(graph: ir.Graph) -> bool:
    """And with a constant that is false throughout, Or with one that is true, Where of either."""
    changed = False
    for node in list(graph):
        if node.domain == "" and node.op_type == "Where":
            changed |= _choose(graph, node)
        if node.domain != "" or node.op_type not in DECIDED_BY:
            continue
        decisive, shape = DECIDED_BY[node.op_type], shape_of(node.outputs[0])
        arrays = [constant_of(value) for value in node.inputs]
        if shape is not None and any(array is not None and np.all(array == decisive) for array in arrays):
            set_constant(graph, node.outputs[0], np.full(shape, decisive))
            graph.remove(node, safe=True)
            changed = True
    return changed


def _choose(graph: ir.Graph, node: ir.Node) -> bool:
    """Let the readers of a Where, of which each element is that of one branch, read this branch."""
    condition, result = constant_of(node.inputs[0]), node.outputs[0]
    if condition is None or not (np.all(condition) or not np.any(condition)):
        return False
    chosen = node.inputs[1 if np.all(condition) else 2]
    if chosen is None or shape_of(chosen) is None or shape_of(chosen) != shape_of(result):
        return False
    return bypass(graph, result, chosen)


def _constant_nodes(graph: ir.Graph) -> list[ir.Node]:
    """The nodes whose every input is constant, in the graph's order."""
    constant: set[ir.Value] = set()
    nodes = []
    for node in graph:
        known = all(value is None or value in constant or constant_of(value) is not None for value in node.inputs)
        has_subgraph = any(
            attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        )
        if known and not has_subgraph and node.domain == "" and node.op_type not in NONDETERMINISTIC:
            nodes.append(node)
            constant.update(node.outputs)
    return nodes
