"""Compute once what no input changes: the weights that a traced graph computes, their norms, their errors.

    Before:  w ─ Abs ─ ReduceMean ─┐
             w ─ Sign ──────────── Mul ─ W ─ ReduceL2 ─ ‖W‖      each time the graph runs
    After:   W, ‖W‖                                              constants

The constants take the memory of the weights once more, so the graph is cut in parts: what is computed on the way to
the weights of some layers is gone before those of the next.  What one operator makes of a constant, as |W|, is left: to
keep it would take as much again, and it is made in no time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import constant_values, input_dependent, inputs_of
from bnncc.ir.graph import set_constant, shape_of
from bnncc.system.memory import return_free_pages

# So many elements are computed at a time: the weights of a layer of 512 to 512 channels have 2,359,296.
ELEMENTS = 1 << 21
# Values with fewer elements ride along: what is computed from large weights is computed with them.
LARGE = 1 << 12


def fold_unvarying(model: ir.Model) -> None:
    """Replace what does not depend on the graph's inputs, and is read by what does, by constants of the same bits."""
    for part in _parts(_frontier(model.graph)):
        results = constant_values(model, part)
        for value in part:
            set_constant(model.graph, value, results[value.name or ""])
        return_free_pages()


def _frontier(graph: ir.Graph) -> list[ir.Value]:
    """What is to become a constant, in the order in which it is read."""
    dependent = input_dependent(graph)
    readers = (node for node in graph if not dependent.isdisjoint(node.outputs))
    read = dict.fromkeys(value for node in readers for value in inputs_of(node))
    left = dependent.union(graph.outputs)
    return [value for value in read if value not in left and not _is_at_hand(value)]


def _is_at_hand(value: ir.Value) -> bool:
    """True for a constant, and for what one operator that is no reduction makes of constants."""
    node = value.producer()
    if node is None or node.op_type == "Constant":
        return True
    operands = (operand.producer() for operand in node.inputs if operand is not None)
    return not node.op_type.startswith("Reduce") and all(one is None or one.op_type == "Constant" for one in operands)


def _parts(values: list[ir.Value]) -> Iterator[list[ir.Value]]:
    part: list[ir.Value] = []
    elements = 0
    for value in values:
        size = int(np.prod(shape_of(value) or ()))
        if size >= LARGE and elements >= ELEMENTS:
            yield part
            part, elements = [], 0
        part.append(value)
        elements += size
    if part:
        yield part
