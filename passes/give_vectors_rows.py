"""Give a vector the axis of images that a batch of one has lost: `x.squeeze()` makes [C] of [1, C, 1, 1].

    Before:  x [1, C, 1, 1] ─ Squeeze ─ [C] ─ Sign ─ MatMul(W) ─ [O] ─ Add(b) ─ y
    After:   x ─ Reshape ─ [1, C] ─ Sign ─ MatMul(W) ─ [1, O] ─ Add(b) ─ Reshape ─ [O] ─ y

W x becomes x Wᵀ.
Channels are the second axis of everything that the passes know.  Only what leads to or comes from a product of a vector
and a matrix is written so.
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir.graph import constant_of, shape_of, unique_name
from bnncc.passes.elementwise_operators import ELEMENTWISE
from bnncc.passes.insertion import insert, insert_reshape, replace_by_layer


def multiplies_vector(node: ir.Node) -> bool:
    """True for a MatMul of a vector that is computed and a matrix, on either side."""
    if node.domain != "" or node.op_type != "MatMul":
        return False
    ranks = [_rank(value) for value in node.inputs]
    return sorted(ranks) == [1, 2] and constant_of(node.inputs[ranks.index(1)]) is None


class GiveVectorsRows(ir.passes.InPlacePass):
    """Where there is a product of a vector and a matrix, write it and all arithmetic on vectors with rows."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        if not any(map(multiplies_vector, graph)):
            return ir.passes.PassResult(model, modified=False)
        rows: dict[ir.Value, ir.Value] = {}
        for node in list(graph):
            if multiplies_vector(node) or _is_arithmetic(node):
                _write_with_rows(graph, node, rows)
        return ir.passes.PassResult(model, modified=True)


def _is_arithmetic(node: ir.Node) -> bool:
    """True for an elementwise operator that yields a vector, of vectors and numbers."""
    if node.domain != "" or node.op_type not in ELEMENTWISE or node.op_type == "BatchNormalization":
        return False
    return len(node.outputs) == 1 and _rank(node.outputs[0]) == 1


def _write_with_rows(graph: ir.Graph, node: ir.Node, rows: dict[ir.Value, ir.Value]) -> None:
    """Put a copy of `node` on rows in front of it, and the vector of its result in its place.

    rows: by vector, what holds it as a row; the result is added.
    """
    operands = [_row(graph, value, node, rows) for value in node.inputs]
    if node.op_type == "MatMul" and _rank(node.inputs[1]) == 1:  # W x is x Wᵀ
        operands = [operands[1], _transposed(graph, operands[0], node)]
    result = node.outputs[0]
    copy = ir.node(node.op_type, operands, dict(node.attributes))
    (size,) = shape_of(result) or (0,)
    name = result.name or node.op_type
    row = insert(graph, copy, node, name=unique_name(graph, f"{name}/row"), like=result, shape=(1, size), origin=node)
    vector = insert_reshape(graph, row, (size,), unique_name(graph, f"{name}/vector"), node)
    replace_by_layer(graph, node, row, vector)
    rows[vector] = row


def _rank(value: ir.Value | None) -> int:
    return 0 if value is None else len(shape_of(value) or ())


def _transposed(graph: ir.Graph, matrix: ir.Value | None, before: ir.Node) -> ir.Value:
    assert matrix is not None
    node = ir.node("Transpose", [matrix], {"perm": [1, 0]})
    name = unique_name(graph, f"{matrix.name}/transposed")
    return insert(graph, node, before, name=name, like=matrix, shape=(shape_of(matrix) or ())[::-1])


def _row(graph: ir.Graph, value: ir.Value | None, before: ir.Node, rows: dict[ir.Value, ir.Value]) -> ir.Value | None:
    """`value` as a row, where it is a vector that is computed; constants and numbers broadcast as they are."""
    if value is None or constant_of(value) is not None or _rank(value) != 1:
        return value
    if value not in rows:
        (size,) = shape_of(value) or (0,)
        rows[value] = insert_reshape(graph, value, (1, size), unique_name(graph, f"{value.name}/row"), before)
    return rows[value]
