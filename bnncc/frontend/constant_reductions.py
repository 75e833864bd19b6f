"""Compute once what weights are reduced to: norms, means, largest magnitudes.

    Before:  w ─ Abs ─ ReduceMean ─ ReduceMean ─ ReduceMean ─ α ─┐
             w ─ Sign ──────────────────────────────────────── Mul ─ Conv
    After:   α, a Constant ─┐
             w ─ Sign ───── Mul ─ Conv

A graph computes its weights anew in every run: in the check of the trace, in the passes, for the verification's
reference and its bounds.  Of that the sums take most of the time in ONNX Runtime, where the axes are as short as
a filter's, and their results take next to no memory.  They are ONNX Runtime's own, of the same operators on the same
weights, so the graph yields the same bits as before.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from bnncc.ir.evaluate import LARGE, constant_values, in_parts, inputs_of
from bnncc.ir.graph import element_count, replace_node

# A result is kept where it is so many times smaller than what it is made of, and has no more elements than this.
SMALLER = 16
LARGEST = 1 << 16
# Of so many elements results are computed at a time: the weights of a layer of 512 to 512 channels have 2,359,296.
TOGETHER = 1 << 22
# Operators whose result is not a function of their inputs.
_RANDOM = ("Random", "Multinomial", "Bernoulli")


def fold_reductions(model: ir.Model) -> None:
    """Replace reductions of weights, and only of weights, by Constant nodes of the same names, in place."""
    graph = model.graph
    sources = _sources(graph)
    chosen = {
        value: None
        for value, size in sources.items()
        if _is_reduction(value) and size >= LARGE and 0 < element_count(value) <= min(LARGEST, size // SMALLER)
    }
    # Of a chain of reductions, the last.
    needed = [v for v in chosen if v.is_graph_output() or any(use.node.outputs[0] not in chosen for use in v.uses())]
    read = [operand.producer() for value in chosen for operand in inputs_of(_producer(value))]
    for part in in_parts({value: sources[value] for value in needed}, TOGETHER):
        results = constant_values(model, part)
        for value in part:
            tensor = ir.tensor(results[value.name or ""], name=value.name)
            replace_node(graph, _producer(value), ir.node("Constant", [], {"value": tensor}))
    _remove_unread(graph, read)


def _sources(graph: ir.Graph) -> dict[ir.Value, int]:
    """Of each value that is computed of initializers and constants alone: the elements of the largest of them."""
    sources = {value: element_count(value) for value in graph.initializers.values() if not value.is_graph_input()}
    for node in graph:
        kinds = {attribute.type for attribute in node.attributes.values()}
        if node.domain or kinds & {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS} or node.op_type.startswith(_RANDOM):
            continue
        operands = [value for value in node.inputs if value is not None]
        if all(value in sources for value in operands):
            sizes = [sources[value] for value in operands] or [element_count(node.outputs[0])]
            sources.update((value, max(sizes)) for value in node.outputs)
    return sources


def _is_reduction(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type.startswith("Reduce") and len(node.outputs) == 1


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _remove_unread(graph: ir.Graph, nodes: Iterable[ir.Node | None]) -> None:
    """Remove those whose results nothing reads any more, and what only they read.  Initializers stay: they are the
    network's."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node is None or node.graph is None or any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        pending += [value.producer() for value in inputs_of(node)]
        graph.remove(node, safe=True)
