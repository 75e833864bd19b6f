"""Go through a graph while it is rewritten: the loop that the passes share."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

# Rewrites what there is to rewrite at a node; True where that was something.
Rewrite = Callable[[ir.Graph, ir.Node], bool]


def rewrite_each(graph: ir.Graph, rewrite: Rewrite, *, backwards: bool = False) -> bool:
    """Call `rewrite` once for each node, in the graph's order or `backwards`; True where anything changed.

    Nodes that a call removed are left out, those that it added are not visited.
    """
    nodes = list(graph)
    changed = False
    for node in reversed(nodes) if backwards else nodes:
        if node.graph is graph:
            changed |= rewrite(graph, node)
    return changed
