"""Choose between booleans with And and Or: ONNX Runtime has no Where of booleans, as `torch.where(c, x > 1, x > 2)`.

Before:  c, a, b ─ Where ─ y
After:   c, a ─ And ─ p;   c ─ Not ─ n;   n, b ─ And ─ q;   p, q ─ Or ─ y
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir.graph import inherit_source, take_over


def express_boolean_choices(model: ir.Model) -> None:
    """In place; the types are known."""
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "Where" and node.outputs[0].dtype is ir.DataType.BOOL:
            _express(model.graph, node)


def _express(graph: ir.Graph, node: ir.Node) -> None:
    condition, chosen, other = node.inputs
    y = node.outputs[0]
    first = ir.node("And", [condition, chosen])
    negated = ir.node("Not", [condition])
    second = ir.node("And", [negated.outputs[0], other])
    either = ir.node("Or", [first.outputs[0], second.outputs[0]])
    nodes = [first, negated, second, either]
    for index, one in enumerate(nodes):
        one.name, one.outputs[0].name = f"{node.name}/{index}", f"{y.name}/{index}"
        one.outputs[0].type = y.type
    either.outputs[0].shape = y.shape
    inherit_source(nodes, node)
    graph.insert_after(node, nodes)
    take_over(y, either.outputs[0])
    graph.remove(node, safe=True)
