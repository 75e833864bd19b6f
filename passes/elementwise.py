"""Read elementwise expressions of one computed value as functions of it.

    x ─ Mul(3) ─ a ─ Clip(-1, 1) ─ b ─ Sign ─ y        y = sign(b) = sign(clip(a, ±1)) = sign(clip(3·x, ±1))

Walking back from y through elementwise operators meets, nearest first, every value of which y is a function.  Constants
are one number, or one a channel (axis 1).  Assignment through a mask, y[x > 0] = 1, is read as what it is, a Where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, shape_of
from bnncc.passes import piecewise
from bnncc.passes.affine import channel_vector
from bnncc.passes.elementwise_operators import ELEMENTWISE, apply_operator
from bnncc.passes.piecewise import Function, Piecewise
from bnncc.passes.positive import positive_factor
from bnncc.passes.shrink_constants import shrunk

# Expressions are small; the limits keep the search linear on long residual streams.
MOST_NODES = 64
MOST_NODES_OF_PART = 8
MOST_SOURCES = 12

# What gives every element the one number that it reads, where there is but one.
NUMBER_KEEPING = {"Identity", "Cast", "CastLike", "Expand", "Reshape"}


@dataclass(frozen=True)
class Candidate:
    """`function` of `source` is the value that was asked about; `nodes` compute it from there, last one first."""

    source: ir.Value
    function: Piecewise
    nodes: tuple[ir.Node, ...]


def interpret(value: ir.Value) -> list[Candidate]:
    """Every computed value of which `value` is a piecewise-linear function, the nearest first.

    Sources have the shape of `value` and the type float32.  Empty where there is none.
    """
    shape = shape_of(value)
    if shape is None:
        return []

    def opens(one: ir.Value, node: ir.Node) -> bool:
        return is_elementwise(node) and shape_of(one) == shape

    found: list[Candidate] = []
    for source, nodes in sole_sources(value, opens, _computed):
        function = _evaluate(value, source, nodes, shape) if shape_of(source) == shape else None
        if function is not None:
            found.append(Candidate(source, function, tuple(nodes)))
        if len(found) == MOST_SOURCES:
            break
    return found


def sole_sources(
    value: ir.Value, opens: Callable[[ir.Value, ir.Node], bool], operands: Callable[[ir.Node], Sequence[ir.Value]]
) -> Iterator[tuple[ir.Value, list[ir.Node]]]:
    """Every float32 value of which alone the expression behind `value` is computed, the nearest first.

    opens: whether the operator that computes a value is looked through; operands: what it reads and is no constant.
    Yields (such a value, the operators from it on to `value`, last one first; the list grows).
    """
    waiting, opened = _uses_inside(value, opens, operands)
    frontier, nodes = [value], list[ir.Node]()
    # What every reader inside the expression has been opened of can be opened next.
    while (ready := next((one for one in frontier if waiting[one] == 0), None)) is not None:
        if len(frontier) == 1 and nodes and ready.dtype == ir.DataType.FLOAT:
            yield ready, nodes
        producer = ready.producer()
        if producer is None or ready not in opened:
            break
        frontier.remove(ready)
        nodes.append(producer)
        for operand in operands(producer):
            waiting[operand] -= 1
            if operand not in frontier:
                frontier.append(operand)


def rests_at(value: ir.Value, number: float) -> bool:
    """True where `value` is exactly `number` for a whole range of what it is computed from, as |x| - x is 0."""
    functions = [candidate.function for candidate in interpret(value)]
    known = [function for function in functions if function.center is None]
    return any(bool(np.any((one.slopes == 0) & (one.offsets == number))) for one in known)


def _uses_inside(
    value: ir.Value, opens: Callable[[ir.Value, ir.Node], bool], operands: Callable[[ir.Node], Sequence[ir.Value]]
) -> tuple[dict[ir.Value, int], set[ir.Value]]:
    """(how often each value is an operand in the expression of `value`, the values that operators in it compute)."""
    waiting, opened = {value: 0}, set[ir.Value]()
    pending, most = [value], MOST_NODES
    for one in pending:
        producer = one.producer()
        if producer is None or not opens(one, producer) or len(opened) >= most:
            continue
        opened.add(one)
        if producer.op_type == "Concat":  # each part is an expression of its own
            most += MOST_NODES_OF_PART * len(producer.inputs)
        for operand in operands(producer):
            if operand not in waiting:
                waiting[operand] = 0
                pending.append(operand)
            waiting[operand] += 1
    return waiting, opened


def is_elementwise(node: ir.Node) -> bool:
    """True for an operator that `interpret` looks through."""
    if ops.is_sign(node):
        return True
    others = any(output.uses() for output in node.outputs[1:])
    return node.domain == "" and node.op_type in ELEMENTWISE and not others


def operands_of(node: ir.Node) -> list[ir.Value | None]:
    """What an elementwise operator computes with, in the order in which `apply_operator` takes it."""
    if node.op_type == "CastLike" or positive_factor(node) is not None:
        return [node.inputs[0]]
    return list(node.inputs)


def _computed(node: ir.Node) -> list[ir.Value]:
    return [value for value in operands_of(node) if value is not None and number_or_array(value) is None]


def number_or_array(value: ir.Value) -> npt.NDArray[np.generic] | None:
    """The array of an initializer; the number that a Cast, CastLike or Expand of one has in all elements."""
    array = constant_of(value)
    node = value.producer()
    if array is not None or node is None or node.domain != "" or node.op_type not in NUMBER_KEEPING:
        return array
    number = number_or_array(node.inputs[0]) if node.inputs[0] is not None else None
    if number is None or number.size != 1 or value.dtype is None:
        return None
    return number.reshape(()).astype(value.dtype.numpy())


def _evaluate(value: ir.Value, source: ir.Value, nodes: Sequence[ir.Node], shape: tuple[int, ...]) -> Function:
    known: dict[ir.Value, Function] = {source: piecewise.identity()}
    for node in reversed(nodes):
        arguments = [_argument(operand, known, shape) for operand in operands_of(node)]
        result = apply_operator(node, arguments)
        known[node.outputs[0]] = None if result is None else piecewise.simplified(result)
    return known[value]


def _argument(value: ir.Value | None, known: dict[ir.Value, Function], shape: tuple[int, ...]) -> Function:
    array = number_or_array(value) if value is not None else None
    if value is None or array is None:
        return known.get(value) if value is not None else None
    if array.shape == shape:  # zeros_like, folded
        array = shrunk(array)
    if array.size == 1:
        return piecewise.constant(float(array.reshape(-1)[0]))
    vector = channel_vector(array, shape) if len(shape) > 1 else None
    return None if vector is None else piecewise.constant(vector)
