"""Cancel terms that are added and subtracted: what a straight-through estimator (STE) leaves in the graph.

    Before:  x ─ Sign ─ s ─┐
             x ─ … ─ p ── Sub ─ Add ─ y            y = (s - p) + p
                    └────────────┘
    After:   x ─ Sign ─ s = y

A sum is read as Σ c_v · v through any tree of Add, Sub and Neg, so `p + (s - p)`, `s - p + p` and `-(p - s) + p` are
all the same; a term whose coefficient becomes 0 is dropped.  The term computed last is opened first: if it contains
another term of the sum, that one is still whole when they meet.  This is done before constants are folded: in
float32, (α·s - w) + w is off by 1e-7 of 1, which is much of a small α.

Constants of one element are not cancelled: (x + c) - c with a large c is a way to round, not a residue.  A surrogate's
slope times what cancels, s + (p - p) · g, is dropped as well: PyTorch has it for the gradient's sake.
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir.graph import bypass, constant_of, inherit_source, replace_node, shape_of

# A residue shows within a few steps; the limit keeps the search linear on long residual streams.
MOST_OPENED = 16

# The operand signs of an operator that is read as a sum.
SIGNS = {"Add": (1, 1), "Sub": (1, -1), "Neg": (-1,)}


class CancelResidue(ir.passes.InPlacePass):
    """Rewrite every sum in which terms cancel."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        changed = False
        order = {node: index for index, node in enumerate(graph)}
        for node in list(graph):
            while node.graph is graph and _is_sum(node):
                terms = _cancelled_terms(node, order)
                rebuilt, replacement = _rebuild(graph, node, terms) if terms else (False, None)
                changed |= rebuilt
                if replacement is None:
                    break
                if replacement not in order:
                    order[replacement] = order[node]
                node = replacement
        return ir.passes.PassResult(model, modified=changed)


def _is_sum(node: ir.Node | None) -> bool:
    return node is not None and node.domain == "" and node.op_type in SIGNS


def _cancelled_terms(node: ir.Node, order: dict[ir.Node, int]) -> dict[ir.Value, int] | None:
    """The coefficients of the sum that `node` computes, opened just far enough that a term has cancelled."""
    terms: dict[ir.Value, int] = {}
    opened = node
    coefficient = 1
    for _ in range(MOST_OPENED):
        cancelled = False
        for sign, value in zip(SIGNS[opened.op_type], opened.inputs, strict=True):
            assert value is not None
            terms[value] = terms.get(value, 0) + coefficient * sign
            if (terms[value] == 0 and _may_cancel(value)) or _is_scaled_nothing(value):
                del terms[value]
                cancelled = True
        if cancelled:
            return terms
        sums = [value for value in terms if terms[value] and _is_sum(value.producer())]
        if not sums:
            return None
        latest = max(sums, key=lambda value: order.get(_producer(value), -1))
        coefficient, opened = terms.pop(latest), _producer(latest)
    return None


def _is_scaled_nothing(value: ir.Value) -> bool:
    """True for a product with the difference of a value and itself."""
    node = value.producer()
    if node is None or node.domain != "" or node.op_type not in ("Mul", "Div"):
        return False
    factors = node.inputs if node.op_type == "Mul" else node.inputs[:1]
    differences = [factor.producer() for factor in factors if factor is not None]
    return any(
        one is not None and one.domain == "" and one.op_type == "Sub" and one.inputs[0] is one.inputs[1]
        for one in differences
    )


def _producer(value: ir.Value) -> ir.Node:
    producer = value.producer()
    assert producer is not None
    return producer


def _may_cancel(value: ir.Value) -> bool:
    array = constant_of(value)
    return array is None or array.size > 1


def _rebuild(graph: ir.Graph, node: ir.Node, terms: dict[ir.Value, int]) -> tuple[bool, ir.Node | None]:
    """Put the sum of `terms` in place of `node`; returns whether that was done, and the node that computes it now."""
    shape = shape_of(node.outputs[0])
    added = [value for value, coefficient in terms.items() if coefficient == 1]
    subtracted = [value for value, coefficient in terms.items() if coefficient == -1]
    # What remains must have the sum's shape without the help of what was dropped.
    full = [value for value in added if shape is not None and shape_of(value) == shape]
    if len(added) + len(subtracted) != len(terms) or not full:
        return False, None
    first = full[0]
    added.remove(first)
    steps = [("Add", value) for value in added] + [("Sub", value) for value in subtracted]
    if not steps:
        return (True, first.producer()) if bypass(graph, node.outputs[0], first) else (False, None)
    total = first
    for position, (operator, value) in enumerate(steps):
        step = ir.node(operator, [total, value])
        if position == len(steps) - 1:
            replace_node(graph, node, step)
        else:
            inherit_source([step], node)
            step.outputs[0].shape, step.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
            step.outputs[0].name = f"{node.outputs[0].name}/sum{position}"
            graph.insert_before(node, step)
        total = step.outputs[0]
    return True, step
