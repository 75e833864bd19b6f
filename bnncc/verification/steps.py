"""Roundings, comparisons and choices: how far their operands are from where the result jumps.

    Round x             x = k + ½
    Floor x, Ceil x     x = k
    x < y, x = y, …     x − y = 0
    QuantizeLinear x    x / scale = k + ½, for the k that the integers hold
    ArgMax x, TopK x    x[i] − x[j] = 0, i what the reference chooses, j what the file does

Two right programs may differ there, and only there: where the distance is no larger than the operands' error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.ir.choices import CHOICES, apart, chosen, result_of
from bnncc.ir.evaluate import Array
from bnncc.ir.graph import constant_of, known_array

COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
ROUNDINGS = ("Round", "Floor", "Ceil")
STEPS = (*ROUNDINGS, "QuantizeLinear", *COMPARISONS, *CHOICES)
CLAMPS = ("Max", "Min", "Clip", "Relu")


def operands_of(node: ir.Node) -> list[ir.Value]:
    """What a step rounds or compares, or chooses from."""
    count = 2 if node.op_type in COMPARISONS else 1
    return [value for value in node.inputs[:count] if value is not None]


def results_of(node: ir.Node) -> Iterator[ir.Value]:
    """What a step yields; behind a rounding also what clamps that nothing else reads it by leave of it."""
    value = result_of(node)
    yield value
    if node.op_type not in ROUNDINGS:
        return
    while not value.is_graph_output():
        readers = [use.node for use in value.uses() if use.node.op_type != "CastLike" or use.idx == 0]
        if len(readers) != 1 or readers[0].domain != "" or readers[0].op_type not in CLAMPS:
            return
        value = readers[0].outputs[0]
        yield value


@dataclass(frozen=True)
class Threshold:
    """Of a rounding or comparison, as the file stores its result: how far the operands are from the threshold, and what
    rounding may amount to in that."""

    distance: Array
    bound: Array

    def at(self, found: Array) -> tuple[Array, Array]:
        """(distance, bound) for what the file has."""
        return self.distance, self.bound


@dataclass(frozen=True)
class Choice:
    """Of indices along an axis.  x: what they choose from; bound: what rounding may amount to in that; indices: the
    reference's.  restore: brings what the file has into their order, store: an array of theirs into the file's.
    """

    x: Array
    bound: Array
    indices: Array
    axis: int
    restore: Callable[[Array], Array]
    store: Callable[[Array], Array]

    def at(self, found: Array) -> tuple[Array, Array]:
        """(how far apart the two chosen elements are, what rounding may amount to in that); where both chose the same,
        or the file what is none, infinitely far."""
        found = self.restore(found).astype(np.int64)
        distance = apart(self.x, found, self.indices, self.axis)
        elsewhere = np.isfinite(distance) & (found != self.indices)
        mine, other = (chosen(self.bound, np.where(elsewhere, one, 0), self.axis) for one in (self.indices, found))
        return self.store(np.where(elsewhere, distance, np.inf)), self.store(mine + other)


def threshold(
    node: ir.Node,
    values: Mapping[ir.Value, Array],
    bounds: Mapping[ir.Value, Array],
    store: Callable[[Array], Array],
    restore: Callable[[Array], Array],
) -> Threshold | Choice:
    """Where the result of a step jumps.

    Args:
        values, bounds: the reference's operands, its result, and what rounding may amount to in the operands.
        store, restore: bring an array of the result's shape into the file's order, and back.
    """
    if node.op_type not in CHOICES:
        return Threshold(store(_distance(node, values)), store(_bound(node, bounds)))
    x = _operand(operands_of(node)[0], values).astype(np.float64)
    bound = np.broadcast_to(bounds[operands_of(node)[0]], x.shape)
    axis = node.attributes.get_int("axis", -1 if node.op_type == "TopK" else 0)
    return Choice(x, bound, values[result_of(node)], axis % x.ndim, restore, store)


def _distance(node: ir.Node, values: Mapping[ir.Value, Array]) -> Array:
    """How far the operands are from the threshold, float64 of the result's shape."""
    operands = [_operand(value, values).astype(np.float64) for value in operands_of(node)]
    x = operands[0]
    if node.op_type in COMPARISONS:
        apart: Array = np.abs(np.subtract(*operands))
        return apart
    if node.op_type == "QuantizeLinear":
        return _distance_of_integers(node, x)
    nearest = np.floor(x) + 0.5 if node.op_type == "Round" else np.round(x)
    away: Array = np.abs(x - nearest)
    return away


def _distance_of_integers(node: ir.Node, x: Array) -> Array:
    """How far x is from where it becomes another integer; beyond the outermost of them none is near."""
    scale, zero_point = (known_array(value) for value in node.inputs[1:3])
    assert scale is not None
    assert zero_point is not None
    bounds, middle = np.iinfo(zero_point.dtype.name), int(zero_point)
    least, most = bounds.min - middle, bounds.max - middle
    nearest = np.clip(np.floor(x / float(scale)) + 0.5, least + 0.5, most - 0.5)
    away: Array = np.abs(x - nearest * float(scale))
    return away


def _bound(node: ir.Node, bounds: Mapping[ir.Value, Array]) -> Array:
    """What rounding may amount to in that distance."""
    total: Array = np.sum(np.broadcast_arrays(*(bounds[value] for value in operands_of(node))), axis=0)
    return total


def _operand(value: ir.Value, values: Mapping[ir.Value, Array]) -> Array:
    array = constant_of(value)
    return values[value] if array is None else array
