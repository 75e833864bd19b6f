"""Take what rectifies behind what moves, where a sign or a step comes later: the two are then one function.

    Before:  x ─ Relu ─ MaxPool ─ Sign ─ y         Before:  x ─ Clip(0, 1) ─ Flatten ─ Round ─ y
    After:   x ─ MaxPool ─ Relu ─ Sign ─ y         After:   x ─ Flatten ─ Clip(0, 1) ─ Round ─ y

An elementwise function, the same for all elements, commutes with every move, and one that never falls with the maximum
too: max f(xᵢ) = f(max xᵢ).  A max-pool's padding is -∞ and never the maximum, so it is no value on either side.
sign(relu(x)) is {0, 1} with a jump at 0, which `recognize_steps` then finds; behind the pool it would find a sign of
values that are 0 by design.
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir.graph import shape_of, sole_consumer, take_over
from bnncc.ir.value_facts import MOVES
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import is_elementwise, number_or_array
from bnncc.passes.insertion import insert

# Elementwise operators of one value that never fall and yield one number for a whole range of it.
RECTIFIERS = {"Relu", "Clip", "HardSigmoid", "Max", "Min"}
# What has a jump.
STEPS = {"Sign", "Round", "Floor", "Ceil", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"}
# Moves of one value that make no copies of elements: behind those, a function would be computed more often.
SINGLE_MOVES = MOVES - {"Concat", "Expand", "Tile", "Gather", "Split"}


class SinkRectifiers(ir.passes.InPlacePass):
    """Let every such function and the move behind it change places, in the graph's order."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _sink))


def _sink(graph: ir.Graph, move: ir.Node) -> bool:
    if move.domain != "" or move.op_type not in SINGLE_MOVES or len(move.outputs) != 1:
        return False
    y, rectified = move.outputs[0], move.inputs[0]
    function = rectified.producer() if rectified is not None else None
    x = None if function is None or y in graph.outputs else _rectified(function)
    if rectified is None or function is None or x is None:
        return False
    if sole_consumer(graph, rectified) is None or shape_of(y) is None or not _leads_to_step(graph, y):
        return False
    moved = ir.node(move.op_type, [x, *move.inputs[1:]], dict(move.attributes))
    value = insert(graph, moved, move, name=f"{y.name}/unrectified", like=y, origin=move)
    operands = [value if operand is x else operand for operand in function.inputs]
    behind = ir.node(function.op_type, operands, dict(function.attributes))
    result = insert(graph, behind, move, name=f"{y.name}/rectified", like=y, origin=function)
    take_over(y, result)
    graph.remove([move, function], safe=True)
    _sink(graph, moved)  # A clip is often a Max and a Min.
    return True


def _rectified(node: ir.Node) -> ir.Value | None:
    """The one value of which `node` is such a function; None where it is none."""
    if node.domain != "" or node.op_type not in RECTIFIERS:
        return None
    given = [value for value in node.inputs if value is not None]
    numbers = {value: number_or_array(value) for value in given}
    computed = [value for value in given if numbers[value] is None]
    if len(computed) != 1 or any(number is not None and number.size != 1 for number in numbers.values()):
        return None
    return computed[0] if shape_of(computed[0]) == shape_of(node.outputs[0]) else None


def _leads_to_step(graph: ir.Graph, value: ir.Value) -> bool:
    """True where all that reads `value` are elementwise operators and moves, one behind the other, down to a step."""
    while (node := sole_consumer(graph, value)) is not None and node.domain == "":
        if node.op_type in STEPS:
            return True
        if node.op_type not in SINGLE_MOVES and not is_elementwise(node):
            return False
        value = node.outputs[0]
    return False
