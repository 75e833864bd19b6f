"""Whether two values hold the same element of one value in the same place, so that their difference is 0 by design.

    x ─┬─ ReduceMax ─┐                         x ─┬─ Slice(backwards, axis 1) ─┐
       └──────────── Sub ─ 0 at the maximum       └─────────────────────────── Sub ─ 0 in the middle channel

Operators that move elements are followed to what they move; where both sides only move, the elements are numbered and
their places compared.  One that chooses among elements by their values has chosen some element of what it reads.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import run, skeleton, weights_of
from bnncc.ir.graph import constant_of, shape_of

# Operators that move elements without changing them; the inputs behind the first hold axes, indices and the like.
MOVING = {
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Concat", "Gather",
    "Expand", "Tile", "DepthToSpace", "SpaceToDepth",
}  # fmt: skip
# Operators of which each element is one of what they read, whichever its values make it.
CHOOSING = {
    "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "TopK", "Max", "Min", "GatherElements", "GatherND",
}  # fmt: skip
JOINING = {"Concat", "Max", "Min"}
# So many operators are followed on each side.
MOST_OPERATORS = 24
# Elements are numbered in float32.
MOST_ELEMENTS = 2**24


def share_elements(left: ir.Value, right: ir.Value) -> bool:
    """True where an element of `left` is the one that `right`, broadcast as ONNX does, holds in that place."""
    chosen_left, chosen_right = _origins(left), _origins(right)
    common = [value for value in chosen_left if value in chosen_right and constant_of(value) is None]
    if not common:
        return False
    if any(chosen_left[value] or chosen_right[value] for value in common):
        return True
    return _meet(left, right, {value for value in (*chosen_left, *chosen_right) if not _is(value.producer(), MOVING)})


def _origins(value: ir.Value) -> dict[ir.Value, bool]:
    """`value` and all that it holds elements of, each with whether they were chosen by their values."""
    found = {value: False}
    waiting = [value]
    while waiting and len(found) < MOST_OPERATORS:
        one = waiting.pop()
        node = one.producer()
        if node is None or not _is(node, MOVING | CHOOSING):
            continue
        for source in node.inputs if node.op_type in JOINING else node.inputs[:1]:
            if source is not None and source not in found:
                found[source] = found[one] or _is(node, CHOOSING) or _is_computed_gather(node)
                waiting.append(source)
    return found


def _is(node: ir.Node | None, operators: set[str]) -> bool:
    return node is not None and node.domain == "" and node.op_type in operators


def _is_computed_gather(node: ir.Node) -> bool:
    return node.op_type == "Gather" and node.inputs[1] is not None and constant_of(node.inputs[1]) is None


def _meet(left: ir.Value, right: ir.Value, leaves: set[ir.Value]) -> bool:
    """Whether two values that only move elements of `leaves` hold the same one anywhere."""
    owner = left.producer() or right.producer()
    sizes = {value: int(np.prod(shape_of(value) or (MOST_ELEMENTS,))) for value in leaves}
    if owner is None or owner.graph is None or sum(sizes.values()) >= MOST_ELEMENTS:
        return False
    if any(value.dtype != ir.DataType.FLOAT for value in leaves):
        return False
    assert isinstance(owner.graph, ir.Graph)
    model = ir.Model(owner.graph, ir_version=10)
    numbers, first = dict[str, np.typing.NDArray[np.float32]](), 0
    for value, size in sizes.items():
        numbers[value.name or ""] = np.arange(first, first + size, dtype=np.float32).reshape(shape_of(value) or ())
        first += size
    places = []
    for value in (left, right):
        if value in leaves:
            places.append(numbers[value.name or ""])
            continue
        proto = skeleton(model, [value], given=leaves)
        places.append(run(proto, {**weights_of(model, proto), **numbers})[value.name or ""])
    return bool(np.any(places[0] == places[1]))
