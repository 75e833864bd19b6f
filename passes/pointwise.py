"""Read a value of any rank as a function, one for each element, of single elements of another value.

    x [N, C, H, W] ─ Unsqueeze(2) ─ Greater(t [1, 1, n, 1, 1]) ─ Cast ─ Reshape [N, C·n, H, W] ─ y

    y[i] = f_k(x[j])        j = index[i], a position in x that is flattened;  k = which[i], a row of `functions`

`elementwise` reads expressions that keep the shape, with one constant a channel; here operators may broadcast, and what
moves elements may stand between them.  Where each element goes is found by moving the numbers of the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import data_inputs
from bnncc.passes import piecewise
from bnncc.passes.elementwise import is_elementwise, number_or_array, operands_of, sole_sources
from bnncc.passes.elementwise_operators import apply_operator
from bnncc.passes.piecewise import Function, Piecewise, rows_of, stacked

Numbers = npt.NDArray[np.int64]

# So many elements are numbered at most: a map of 224 by 224 with 3 channels of 20 thresholds has 3 million.
MOST_ELEMENTS = 1 << 23
# So many functions are told apart at most.
MOST_FUNCTIONS = 1 << 12

MOVING = {"Identity", *RESHAPES, "Transpose", "Expand", "Tile", "Concat", "Gather"}
# What has one parameter a channel of its own input.
OTHERS = {"BatchNormalization"}


@dataclass(frozen=True)
class Pointwise:
    """index, which: integers of the value's shape, or of one that broadcasts to it."""

    index: Numbers
    which: Numbers
    functions: Piecewise


@dataclass(frozen=True)
class Source:
    """`nodes` compute the value that was asked about from `value`, last one first."""

    value: ir.Value
    nodes: tuple[ir.Node, ...]


def sources_of(value: ir.Value) -> list[Source]:
    """Every float32 value that the expression behind `value` is all computed of, the farthest first."""
    found = sole_sources(value, lambda one, node: is_pointwise(node), computed_operands)
    return [Source(source, tuple(nodes)) for source, nodes in found][::-1]


def is_pointwise(node: ir.Node) -> bool:
    """True for an operator that is looked through: elementwise, broadcasting or not, or one that moves elements."""
    if node.domain == "" and node.op_type in MOVING:
        return all(constant_of(value) is not None for value in node.inputs[len(data_inputs(node)) :])
    return is_elementwise(node) and node.op_type not in OTHERS


def computed_operands(node: ir.Node) -> list[ir.Value]:
    """The operands that are no constants."""
    moving = node.domain == "" and node.op_type in MOVING
    operands: Sequence[ir.Value | None] = data_inputs(node) if moving else operands_of(node)
    return [value for value in operands if value is not None and number_or_array(value) is None]


def evaluate(value: ir.Value, source: Source) -> Pointwise | None:
    """`value` by the elements of the source; None where it is no piecewise-linear function of them."""
    shape = shape_of(source.value)
    size = shape_of(value)
    if shape is None or size is None or max(np.prod(size), np.prod(shape)) > MOST_ELEMENTS:
        return None
    numbers = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    known = {source.value: Pointwise(numbers, np.zeros((1,) * len(shape), np.int64), piecewise.identity())}
    for node in reversed(source.nodes):
        result = shape_of(node.outputs[0])
        if result is None:
            return None
        found = _moved(node, known, result) if node.op_type in MOVING else _applied(node, known, result)
        if found is None or found.functions.channels > MOST_FUNCTIONS:
            return None
        known[node.outputs[0]] = found
    return known[value]


def _moved(node: ir.Node, known: dict[ir.Value, Pointwise], shape: tuple[int, ...]) -> Pointwise | None:
    parts = []
    for value in data_inputs(node):
        if value not in known:
            return None  # A constant among what is joined.
        parts.append(known[value])
    before = [shape_of(value) or () for value in data_inputs(node)]
    if node.op_type == "Concat":
        first = 0
        moved = []
        for part in parts:
            moved.append(replace(part, which=part.which + first))
            first += part.functions.channels
        axis = node.attributes.get_int("axis", 0)
        index, which = (
            np.concatenate([np.broadcast_to(array, size) for array, size in zip(arrays, before, strict=True)], axis)
            for arrays in ([part.index for part in moved], [part.which for part in moved])
        )
        functions = stacked([part.functions for part in parts])
        return None if functions is None else Pointwise(index, which, functions)
    part = parts[0]
    index, which = (_move(node, array, before[0], shape) for array in (part.index, part.which))
    return Pointwise(index, which, part.functions)


def _move(node: ir.Node, array: Numbers, before: tuple[int, ...], shape: tuple[int, ...]) -> Numbers:
    if node.op_type in ("Identity", *RESHAPES):
        return array if before == shape else np.broadcast_to(array, before).reshape(shape)
    if node.op_type == "Transpose":
        permutation = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(before))[::-1]
        return array.transpose(tuple(permutation))
    if node.op_type == "Expand":
        return np.broadcast_to(array, shape)
    given = constant_of(node.inputs[1])
    assert given is not None
    if node.op_type == "Tile":
        return np.tile(np.broadcast_to(array, before), given.reshape(-1).tolist())
    return np.broadcast_to(array, before).take(given.astype(np.int64), axis=node.attributes.get_int("axis", 0))


def _applied(node: ir.Node, known: dict[ir.Value, Pointwise], shape: tuple[int, ...]) -> Pointwise | None:
    """An elementwise operator: the functions of all combinations of its operands' functions and constants."""
    operands = operands_of(node)
    given = [None if value is None else known.get(value) for value in operands]
    of_source = [one for one in given if one is not None]
    index = np.broadcast_to(of_source[0].index, shape)
    if any(not np.array_equal(index, np.broadcast_to(one.index, shape)) for one in of_source[1:]):
        return None
    tables: list[tuple[Numbers, int]] = []
    constants: list[npt.NDArray[np.float64] | None] = []
    for value, one in zip(operands, given, strict=True):
        array = None if value is None or one is not None else number_or_array(value)
        if one is not None:
            tables.append((one.which, one.functions.channels))
            constants.append(None)
        elif array is not None:
            values, numbers = np.unique(array.astype(np.float64), return_inverse=True)
            tables.append((numbers.reshape(array.shape), len(values)))
            constants.append(values)
        elif value is None:
            tables.append((np.zeros((), np.int64), 1))
            constants.append(None)
        else:
            return None
    key: Numbers = np.zeros((), np.int64)
    for numbers, count in tables:
        key = key * count + numbers
    combinations, which = np.unique(key, return_inverse=True)
    if len(combinations) > MOST_FUNCTIONS:
        return None
    which = which.reshape((1,) * (len(shape) - key.ndim) + key.shape)
    arguments: list[Function] = []
    for (_, count), one, constant in zip(tables[::-1], given[::-1], constants[::-1], strict=True):
        combinations, chosen = np.divmod(combinations, count)
        if one is not None:
            arguments.insert(0, rows_of(one.functions, chosen))
        else:
            arguments.insert(0, None if constant is None else piecewise.constant(constant[chosen]))
    functions = apply_operator(node, arguments)
    if functions is None:
        return None
    rows = np.arange(which.max() + 1) if functions.channels > 1 else np.zeros(which.max() + 1, np.int64)
    return Pointwise(index, which, piecewise.simplified(rows_of(functions, rows)))
