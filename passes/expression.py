"""Replace an elementwise expression: visit each, what of it can go, and the chain of operators that takes its place.

    Before:  x ─ Mul ─ Clip ─ Round ─ y            y = f(x), as `elementwise` reads it
    After:   x ─ Mul(a) ─ Add(b) ─ Sign ─ y        a `Chain`

What something outside the expression reads stays, and counts as no operator that was saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, fresh_name, inherit_source, new_constant, shape_of
from bnncc.passes.affine import affine_of
from bnncc.passes.each_node import Rewrite, rewrite_each
from bnncc.passes.elementwise import is_elementwise
from bnncc.passes.piecewise import Matrix

# What absorbs a per-channel affine that follows it.
ABSORBING = {"Conv", "ConvTranspose", "Gemm"}
# The longest chain that computes a factor which an expression multiplies by.
MOST_SERVANTS = 8


def exclusive(graph: ir.Graph, nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Of an expression's nodes, last one first, those that nothing outside it needs but through the first."""
    kept: list[ir.Node] = []
    for node in nodes:
        users = [use.node for output in node.outputs for use in output.uses()]
        outside = any(output in graph.outputs for output in node.outputs) or any(
            user not in kept and not _serves(graph, user, kept, MOST_SERVANTS) for user in users
        )
        if not kept or not outside:
            kept.append(node)
    return kept


def _serves(graph: ir.Graph, node: ir.Node, nodes: Sequence[ir.Node], budget: int) -> bool:
    """True where what `node` computes is read by `nodes` alone, or by what itself serves them: max|x| in x / max|x|."""
    if not budget or any(output in graph.outputs for output in node.outputs):
        return False
    users = [use.node for output in node.outputs for use in output.uses()]
    return bool(users) and all(user in nodes or _serves(graph, user, nodes, budget - 1) for user in users)


def is_absorbed(graph: ir.Graph, x: ir.Value, nodes: Sequence[ir.Node]) -> bool:
    """True where an affine of `x` folds into the convolution in front once `nodes`, last one first, are replaced.

    What reads `x` for something else as well, such as a batch norm that a shortcut needs too, stays and prevents it.
    """
    inside: Sequence[ir.Node] = exclusive(graph, nodes)
    while x not in graph.outputs and all(use.node in inside for use in x.uses()):
        node = x.producer()
        if node is None:
            return False
        if (node.domain == "" and node.op_type in ABSORBING) or ops.is_binary_conv(node):
            return constant_of(node.inputs[1]) is not None
        step = affine_of(node)
        if step is None:
            return False
        x, inside = step[0], [node]
    return False


@dataclass
class Chain:
    """Operators put in one after the other behind `value`, in front of `anchor`, named after `name`."""

    graph: ir.Graph
    anchor: ir.Node
    value: ir.Value
    name: str

    def then(self, node: ir.Node, suffix: str) -> None:
        """Append `node`, which reads `self.value`."""
        result = node.outputs[0]
        result.name = fresh_name(self.graph, f"{self.name}/{suffix}")
        if result.shape is None:
            result.shape, result.type = self.value.shape, self.value.type
        inherit_source([node], self.anchor)
        self.graph.insert_before(self.anchor, node)
        self.value = result

    def per_channel(self, operator: str, vector: Matrix, suffix: str) -> None:
        """Append a Mul, Add or PRelu with one constant a channel; nothing where it changes nothing."""
        if np.all(vector == (0 if operator == "Add" else 1)):
            return
        rank = len(shape_of(self.value) or ())
        array = np.asarray(vector, np.float32)
        if operator == "PRelu":
            channels = (shape_of(self.value) or ())[1:2]
            array = np.broadcast_to(array, channels or (1,)).reshape(-1, *(1,) * (rank - 2))
        elif np.all(array == array[0]):
            array = array[0]
        else:
            array = array.reshape(1, -1, *(1,) * (rank - 2))
        constant = new_constant(self.graph, array, f"{self.name}/{suffix}")
        self.then(ir.node(operator, [self.value, constant]), f"{suffix}/{operator.lower()}")


def rewrite_expressions(graph: ir.Graph, rewrite: Rewrite) -> bool:
    """Call `rewrite` for each elementwise operator that yields floats, the last one of an expression first."""

    def visit(graph: ir.Graph, node: ir.Node) -> bool:
        return is_elementwise(node) and node.outputs[0].dtype == ir.DataType.FLOAT and rewrite(graph, node)

    return rewrite_each(graph, visit, backwards=True)
