"""Remove what nobody reads.

    Before:  x ─┬─ Sign ─ y                After:  x ─ Sign ─ y
                └─ Tanh ─ Sub(p) ─ (unread)

A node that nothing needs is one reader too many of what it reads: passes look for values with a single reader.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


class RemoveUnused(ir.passes.InPlacePass):
    """Remove every node, and every initializer, that no graph output needs; onnx_ir's pass."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        removed = RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=removed.modified)


def remove_unread(graph: ir.Graph, nodes: Iterable[ir.Node | None]) -> None:
    """Remove those of `nodes` whose results nobody reads, and whatever only they needed."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node is None or node.graph is not graph:
            continue
        if any(output.uses() or output in graph.outputs for output in node.outputs):
            continue
        pending.extend(value.producer() for value in node.inputs if value is not None)
        graph.remove(node, safe=True)
