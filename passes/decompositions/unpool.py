"""Max-unpools: each element goes to that place of its window from which the maximum was taken, zeros elsewhere.

    Before:  x ─ taps ─ ArgMax ─ k ─ Gather(table) ─ Add ─ i          v, i ─ ScatterND(0) ─ Reshape ─ y
    After:   x ─ taps ─ ArgMax ─ k ┬ Equal(0), v ─ Where ┐
                                   ├ Equal(1), v ─ Where ├ Concat ─ DepthToSpace ─ y
                                   …                     ┘

`windows.max_pool` writes the index of a maximum so: it is one of as many constants as a window has taps, and stays that
when constants are added to it or its elements are moved.  Where the windows do not overlap, the places that tap k
stands for are a phase of the result: all that is left to compute is which tap an element goes to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.evaluate import computed_constant
from bnncc.ir.graph import constant_of, shape_of
from bnncc.passes.decompositions.builder import Builder

Indices = npt.NDArray[Any]

# A window has no more taps.
MOST_CASES = 64
_SHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast")
_ARITHMETIC: dict[str, Callable[[Indices, Indices], Indices]] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}


@dataclass(frozen=True)
class _Choice:
    """An integer value whose elements are those of cases[k] where `chosen` is k, in the order of the elements."""

    chosen: ir.Value
    cases: tuple[Indices, ...]

    def map(self, function: Callable[[Indices], Indices]) -> _Choice:
        return _Choice(self.chosen, tuple(map(function, self.cases)))


def unpooled(build: Builder) -> ir.Value | None:
    """The result of a ScatterND into zeros whose index was chosen among constants; None where it is no such unpool."""
    index, maps = _choice(build, build.input(1)), _shape_behind(build.origin.outputs[0])
    zeros = computed_constant(build.input(0))
    if index is None or maps is None or zeros is None or np.any(zeros):
        return None
    shape, updates = build.shape(index.chosen), build.input(2)
    numbers = [_numbers(places, zeros.shape) for places in index.cases]
    if len(shape) != 4 or shape[:2] != maps[:2] or {one.size for one in numbers} != {int(np.prod(shape))}:
        return None
    if np.prod(build.shape(updates)) != np.prod(shape):
        return None
    strides = _strides(numbers[0].reshape(shape), maps)
    phases = [_phase(one.reshape(shape), maps, strides) for one in numbers]
    if None in phases or len(set(phases)) < len(phases):
        return None
    y = _interleaved(build, index.chosen, build.reshape(_before_reshapes(updates, shape), shape), phases, strides, maps)
    return build.reshape(y, zeros.shape)


def _interleaved(
    build: Builder,
    chosen: ir.Value,
    x: ir.Value,
    phases: Sequence[tuple[int, int] | None],
    strides: tuple[int, int],
    maps: Sequence[int],
) -> ir.Value:
    """The elements x [N, C, h, w] in maps of zeros, each at the phase that was chosen for it."""
    batch, channels, height, width = build.shape(x)
    zero, parts = build.scalar(0, x), {}
    for case, phase in enumerate(phases):
        parts[phase] = build.op("Where", build.op("Equal", chosen, build.scalar(case, chosen)), x, zero)
    nothing = build.constant(np.zeros((batch, channels, height, width), np.float32))
    whole = [parts.get((row, column), nothing) for row in range(strides[0]) for column in range(strides[1])]
    if strides[0] == strides[1]:
        y = build.concat(whole, 1)
        y = build.op("DepthToSpace", y, blocksize=strides[0], mode="DCR") if strides[0] > 1 else y
    else:
        split = (batch, *strides, channels, height, width)
        y = build.transpose(build.reshape(build.concat(whole, 1), split), (0, 3, 4, 1, 5, 2))
        y = build.reshape(y, (batch, channels, height * strides[0], width * strides[1]))
    for axis in (2, 3):
        missing = maps[axis] - build.shape(y)[axis]
        if missing < 0:
            y = build.slice(y, axis, 0, maps[axis])
        elif missing:
            y = build.op("Pad", y, build.ints([0, missing]), None, build.ints([axis]))
    return y


def _choice(build: Builder, value: ir.Value) -> _Choice | None:
    """The constants of which an integer value is one, element by element; None where it is anything else."""
    node = value.producer()
    if node is None or node.domain != "":
        return None
    shape = build.shape(value)
    operands = [operand for operand in node.inputs if operand is not None]
    if node.op_type == "Gather":
        table, chosen = constant_of(operands[0]), operands[1]
        if table is None or table.ndim != 1 or len(table) > MOST_CASES:
            return None
        return _Choice(chosen, tuple(np.full(shape, one) for one in table))
    if node.op_type in _ARITHMETIC:
        compute, (left, right) = _ARITHMETIC[node.op_type], operands
        array = computed_constant(right)
        if array is not None:
            found = _choice(build, left)
            return None if found is None else found.map(lambda one: compute(one, array))
        first, found = computed_constant(left), _choice(build, right)
        return None if first is None or found is None else found.map(lambda one: compute(first, one))
    found = _choice(build, operands[0])
    if found is None:
        return None
    if node.op_type in _SHAPES or (node.op_type == "Concat" and len(operands) == 1):
        return found.map(lambda one: one.reshape(shape))
    if node.op_type == "Transpose":
        order = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
        return found.map(lambda one: one.transpose(order))
    return found if node.op_type == "Expand" and shape_of(operands[0]) == shape else None


def _shape_behind(value: ir.Value) -> tuple[int, ...] | None:
    """The shape of the maps as which a flat result is read."""
    while len(shape_of(value) or ()) != 4:
        readers = [use.node for use in value.uses()]
        if (
            len(readers) != 1
            or readers[0].op_type not in ("Reshape", "Transpose", "Identity")
            or readers[0].domain != ""
        ):
            return None
        if readers[0].op_type == "Transpose" and len(shape_of(value) or ()) != 1:
            return None
        value = readers[0].outputs[0]
    return shape_of(value)


def _numbers(index: Indices, shape: Sequence[int]) -> Indices:
    """The index [..., d] of elements of a tensor of `shape` as the number of each."""
    sizes = np.asarray(shape)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(index % sizes, -1, 0)), tuple(shape)))


def _strides(numbers: Indices, maps: Sequence[int]) -> tuple[int, int]:
    """How far apart neighbours lie along both axes, as far as there are two."""
    _, _, rows, columns = np.unravel_index(numbers, tuple(maps))
    down = int(rows[0, 0, 1, 0] - rows[0, 0, 0, 0]) if numbers.shape[2] > 1 else maps[2]
    across = int(columns[0, 0, 0, 1] - columns[0, 0, 0, 0]) if numbers.shape[3] > 1 else maps[3]
    return max(down, 1), max(across, 1)


def _phase(numbers: Indices, maps: Sequence[int], strides: tuple[int, int]) -> tuple[int, int] | None:
    """The row and column of the first of the places of one case [N, C, h, w]; None where they are no grid of these
    strides in the map of each element.
    """
    batch, channels, rows, columns = np.unravel_index(numbers, tuple(maps))
    wanted = np.indices(numbers.shape)
    row, column = int(rows[0, 0, 0, 0]), int(columns[0, 0, 0, 0])
    fits = np.array_equal(batch, wanted[0]) and np.array_equal(channels, wanted[1])
    fits = fits and np.array_equal(rows, row + wanted[2] * strides[0])
    fits = fits and np.array_equal(columns, column + wanted[3] * strides[1])
    return (row, column) if fits and row < strides[0] and column < strides[1] else None


def _before_reshapes(value: ir.Value, shape: Sequence[int]) -> ir.Value:
    """The value of this shape of which `value` has the elements in the same order; itself where there is none."""
    source = value
    while shape_of(source) != tuple(shape):
        node = source.producer()
        if node is None or node.domain != "" or node.inputs[0] is None:
            return value
        flat = node.op_type in ("Transpose", "Expand") and shape_of(node.inputs[0]) == shape_of(source)
        if node.op_type not in _SHAPES and not (flat and len(shape_of(source) or ()) == 1):
            return value
        source = node.inputs[0]
    return source
