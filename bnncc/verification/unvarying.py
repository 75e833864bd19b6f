"""Compute once what no input changes: the weights that a traced graph computes, their norms, their errors.

    Before:  w ─ Abs ─ ReduceMean ─┐
             w ─ Sign ──────────── Mul ─ W ─ ReduceL2 ─ ‖W‖      each time the graph runs
    After:   W, ‖W‖                                              constants

The constants take the memory of the weights once more, so the graph is cut in parts: what is computed on the way to
the weights of some layers is gone before those of the next.  What one operator makes of a constant, as |W|, is left: to
keep it would take as much again, and it is made in no time.  So is a map that a vector is spread over, as `expand_as`
does with shifts and slopes: what it is made of becomes a constant instead.
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir.evaluate import LARGE, constant_values, in_parts, input_dependent, inputs_of
from bnncc.ir.graph import element_count, set_constant, shape_of
from bnncc.system.memory import return_free_pages

# So many elements are computed at a time: the weights of a layer of 512 to 512 channels have 2,359,296.
ELEMENTS = 1 << 21
# A large value that is made of so many times fewer elements is a small one, spread.
SPREAD = 16


def fold_unvarying(model: ir.Model) -> None:
    """Replace what does not depend on the graph's inputs, and is read by what does, by constants of the same bits."""
    sizes = {value: element_count(value) for value in _frontier(model.graph)}
    for part in in_parts(sizes, ELEMENTS):
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
    sizes: dict[ir.Value, int] = {}
    found: dict[ir.Value, None] = {}
    pending = [value for value in reversed(read) if value not in left]
    while pending:
        value = pending.pop()
        if _is_at_hand(value):
            continue
        node, size = value.producer(), element_count(value)
        if node is not None and size >= LARGE and _source_size(value, sizes) * SPREAD <= size:
            pending += inputs_of(node)
        else:
            found[value] = None
    return list(found)


def _source_size(value: ir.Value, sizes: dict[ir.Value, int]) -> int:
    """How many elements a value is made of, at the narrowest place between it and the constants; `sizes` remembers."""
    pending = [value]
    while pending:
        one = pending[-1]
        node = one.producer()
        operands = [] if node is None else inputs_of(node)
        missing = [operand for operand in operands if operand not in sizes]
        if one not in sizes and missing:
            pending += missing
            continue
        narrowest = [sum(sizes[operand] for operand in operands)] if operands else []
        narrowest += [element_count(one)] if not operands or shape_of(one) is not None else []
        sizes[one] = min(narrowest)
        pending.pop()
    return sizes[value]


def _is_at_hand(value: ir.Value) -> bool:
    """True for a constant, and for what one operator that is no reduction makes of constants."""
    node = value.producer()
    if node is None or node.op_type == "Constant":
        return True
    operands = (operand.producer() for operand in node.inputs if operand is not None)
    return not node.op_type.startswith("Reduce") and all(one is None or one.op_type == "Constant" for one in operands)
