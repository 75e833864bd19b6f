"""Products with weights of ±1 that a network writes out, as the MatMul that they are: XNOR and a count, or a sum.

    Before:  x [B, 1, K] = ±1, w [N, K] = ±1 ─ Equal ─ Cast ─ ReduceSum(-1) ─ y [B, N]
    After:   x ─ Reshape [B, K] ─ MatMul(½wᵀ) ─ Add(K/2) ─ y

A term f(x, w) of a sum may be any function, element by element, of constants and one value x that takes two values, of
which s = ±1 says which it is.  Then

    f = p + q·s        with p = (f(upper) + f(lower)) / 2 and q = (f(upper) - f(lower)) / 2, which are constants

and the sum is Σp + q·s, a product with the weights q: of Equal, Xor, And, bitwise or not, of |x - w| and of (x - w)².
Where f is x times a constant, x may be any float.

    Before:  x [B, 1, K], w [N, K] = ±α_n ─ Mul ─ ReduceSum(-1) ─ y [B, N]
    After:   x ─ Reshape [B, K] ─ MatMul(wᵀ) ─ y

Any axes may be summed up, as channels and taps, and several be outputs, in any order.  A mean is such a sum, and so is
a norm; that of a ±1 map alone is a constant.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.frontend.integer_products import EXACT, replace_by_floats
from bnncc.frontend.levels import INTEGERS, Levels, is_signs, levels
from bnncc.frontend.put import put
from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.evaluate import Array, computed_constant, input_dependent
from bnncc.ir.graph import new_constant, shape_of, take_over

# A sum's terms are looked at through so many operators.
_MOST_OPERATORS = 32

Floats = npt.NDArray[np.float64]


def _clip(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    return np.asarray(np.clip(x, low, high)) if low is not None or high is not None else x


# Of which the other inputs are a shape and a type, which results have anyway.
_FIRST_INPUT_ONLY = {"Expand", "Cast", "CastLike"}
# Operators, element by element, on arrays.
_FUNCTIONS: dict[str, Callable[..., Array]] = {
    **dict.fromkeys(("Identity", *_FIRST_INPUT_ONLY), lambda x: x),
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Neg": np.negative,
    "Abs": np.abs,
    "Pow": np.power,
    "Sqrt": np.sqrt,
    "Max": lambda *x: functools.reduce(np.maximum, x),
    "Min": lambda *x: functools.reduce(np.minimum, x),
    "Clip": _clip,
    "Where": np.where,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "BitwiseNot": np.invert,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}
# What is done to each term before they are summed up.
_REDUCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "ReduceSum": lambda terms: terms,
    "ReduceMean": lambda terms: terms,
    "ReduceL1": np.abs,
    "ReduceL2": np.square,
    "ReduceSumSquare": np.square,
}


@dataclass(frozen=True)
class _Terms:
    """What is summed up: `constant` + `factor` · s, of shapes that broadcast to `shape`.

    s is `source`, of the shape `own`; ±1 where it is `two`, the lower and the upper value of it.
    """

    source: ir.Value
    two: Levels | None
    constant: Floats
    factor: Floats
    shape: tuple[int, ...]
    own: tuple[int, ...]


@dataclass(frozen=True)
class _Product:
    """s [rows, K] times `weights` [N, K], plus `offsets` [N]: s is what `terms.source` says, its axes in the order of
    `rows`, then `summed`; of the outputs, N are in the order of `outputs`.
    """

    terms: _Terms
    rows: list[int]
    summed: list[int]
    outputs: list[int]
    weights: Floats
    offsets: Floats


def express_products(model: ir.Model) -> None:
    """In place; shapes and types are known."""
    graph, dependent = model.graph, input_dependent(model.graph)
    for node in [node for node in graph if node.domain == "" and node.op_type in _REDUCTIONS]:
        y = node.outputs[0]
        terms = _terms(node, dependent) if y in dependent else None
        axes = None if terms is None else _axes(node)  # which may take a run of ONNX Runtime: of candidates alone
        if axes is None or terms is None:
            continue
        norm, product = _constant_norm(terms, axes, node), _product(terms, axes)
        if norm is not None:
            take_over(y, new_constant(graph, norm, f"{y.name}/constant"))
            graph.remove(node, safe=True)
        elif product is not None:
            _write(graph, node, product)
        if norm is not None or product is not None:
            dependent = input_dependent(graph)


def _axes(node: ir.Node) -> list[int] | None:
    """The axes that a reduction sums up, from 0 on."""
    shape = None if node.inputs[0] is None else shape_of(node.inputs[0])
    axes = None if len(node.inputs) < 2 or node.inputs[1] is None else computed_constant(node.inputs[1])
    if not shape or axes is None or not axes.size:
        return None
    return sorted(int(axis) % len(shape) for axis in axes.ravel())


def _terms(node: ir.Node, dependent: Collection[ir.Value]) -> _Terms | None:
    value = node.inputs[0]
    shape = None if value is None else shape_of(value)
    if value is None or not shape:
        return None
    source = _source(value, shape, dependent)
    own = None if source is None else _aligned(source, len(shape))
    if source is None or own is None:
        return None
    two = levels(source)
    if two is None:
        factor = _constant_factor(value, source, dependent)
        if factor is None or source.dtype is not ir.DataType.FLOAT or node.op_type not in ("ReduceSum", "ReduceMean"):
            return None
        low, high = -_ranked(factor, len(shape)), _ranked(factor, len(shape))
    else:
        arrays = [_evaluate(value, source, level, dependent) for level in two]
        if any(array is None or not np.all(np.isfinite(array)) for array in arrays):
            return None
        low, high = (_REDUCTIONS[node.op_type](_ranked(array, len(shape))) for array in arrays if array is not None)
    low, high = np.broadcast_arrays(low, high)
    return _Terms(source, two, _compressed((high + low) / 2), _compressed((high - low) / 2), shape, own)


def _source(value: ir.Value, shape: tuple[int, ...], dependent: Collection[ir.Value]) -> ir.Value | None:
    """The one value that the terms are computed from, besides constants: of another shape, or else of two values."""
    for is_source in (lambda one: _aligned(one, len(shape)) != shape, _has_two_numbers):
        found: set[ir.Value] = set()
        pending, seen = [value], {value}
        while pending and len(seen) < _MOST_OPERATORS:
            one = pending.pop()
            node = one.producer()
            if is_source(one):
                found.add(one)
            elif node is None or not _is_computed(node):
                break
            else:
                new = [one for one in _operands(node) if one is not None and one in dependent and one not in seen]
                pending += new
                seen.update(new)
        else:
            if len(found) == 1 and not pending:
                return found.pop()
    return None


def _has_two_numbers(value: ir.Value) -> bool:
    return value.dtype is not ir.DataType.BOOL and levels(value) is not None


def _is_computed(node: ir.Node) -> bool:
    """True for an operator that `_evaluate` knows; integers are divided otherwise."""
    if node.domain != "" or node.op_type not in _FUNCTIONS:
        return False
    return node.op_type != "Div" or node.outputs[0].dtype is ir.DataType.FLOAT


def _operands(node: ir.Node) -> Sequence[ir.Value | None]:
    return node.inputs[:1] if node.op_type in _FIRST_INPUT_ONLY else node.inputs


def _evaluate(value: ir.Value, source: ir.Value, level: float, dependent: Collection[ir.Value]) -> Array | None:
    """`value` where all of `source` is `level`, of a shape that broadcasts to its own."""
    if value is source:
        return np.array(level, source.dtype.numpy()) if source.dtype is not None else None
    if value not in dependent:
        return computed_constant(value)
    node = value.producer()
    if node is None or value.dtype is None:
        return None
    given = _operands(node)
    arrays = [None if one is None else _evaluate(one, source, level, dependent) for one in given]
    if any(array is None and one is not None for array, one in zip(arrays, given, strict=True)):
        return None
    with np.errstate(all="ignore"):
        return np.asarray(_FUNCTIONS[node.op_type](*arrays)).astype(value.dtype.numpy())


def _constant_factor(value: ir.Value, source: ir.Value, dependent: Collection[ir.Value]) -> Array | None:
    """w where `value` is `source` times w."""
    node = value.producer()
    if node is None or node.op_type != "Mul" or node.domain != "":
        return None
    x, w = node.inputs if node.inputs[0] in dependent else reversed(node.inputs)
    while x is not None and x is not source and (producer := x.producer()) is not None and _is_repeated(producer):
        x = producer.inputs[0]
    return computed_constant(w) if x is source and w is not None and w not in dependent else None


def _is_repeated(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in ("Identity", "Expand")


def _aligned(value: ir.Value, rank: int) -> tuple[int, ...] | None:
    """Its shape, with ones in front."""
    shape = shape_of(value)
    return None if shape is None or len(shape) > rank else (1,) * (rank - len(shape)) + shape


def _ranked(array: Array, rank: int) -> Floats:
    return array.astype(np.float64).reshape((1,) * (rank - array.ndim) + array.shape)


def _compressed(array: Floats) -> Floats:
    """With one element along each axis along which it does not change."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if np.all(array == first):
            array = first
    return array


def _constant_norm(terms: _Terms, axes: Sequence[int], node: ir.Node) -> Array | None:
    """What a reduction yields whose terms are the same for both values, as |±1| and (±1)²."""
    y, kept = node.outputs[0], [axis for axis in range(len(terms.shape)) if axis not in axes]
    if (
        np.any(terms.factor)
        or y.dtype is None
        or y.is_graph_output()
        or any(terms.constant.shape[axis] > 1 for axis in kept)
    ):
        return None
    total = _summed(terms.constant, terms.shape, axes).item()
    if node.op_type == "ReduceMean":
        total /= _count(terms.shape, axes)
    elif node.op_type == "ReduceL2":
        total = math.sqrt(total)
    return np.full(shape_of(y) or (), total, y.dtype.numpy())


def _summed(array: Floats, shape: Sequence[int], axes: Sequence[int]) -> Floats:
    """Summed up along `axes`, in which it broadcasts to `shape`."""
    repeated = _count(shape, [axis for axis in axes if array.shape[axis] == 1])
    return np.asarray(np.sum(array, axis=tuple(axes), keepdims=True) * repeated)


def _count(shape: Sequence[int], axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)


def _product(terms: _Terms, axes: Sequence[int]) -> _Product | None:
    """None where the sum is no product of rows and weights, or not of weights that bits can hold."""
    summed = [axis for axis in axes if terms.own[axis] > 1]
    factor = _summed(terms.factor, terms.shape, [axis for axis in axes if terms.own[axis] == 1])
    factor = np.broadcast_to(factor, [terms.own[i] if i in summed else n for i, n in enumerate(factor.shape)])
    offset = _summed(terms.constant, terms.shape, axes)
    kept = [axis for axis in range(len(terms.shape)) if axis not in axes]
    rows = [axis for axis in kept if terms.own[axis] > 1]
    outputs = [axis for axis in kept if factor.shape[axis] > 1 or offset.shape[axis] > 1]
    count, summands = (_count(terms.shape, group) for group in (outputs, summed))
    if set(rows) & set(outputs) or count < 2 or summands < 2:
        return None
    factor, offset = (
        np.broadcast_to(array, [terms.shape[i] if i in outputs else n for i, n in enumerate(array.shape)])
        for array in (factor, offset)
    )
    others = [axis for axis in range(len(terms.shape)) if axis not in (*outputs, *summed)]
    weights = factor.transpose([*others, *outputs, *summed]).reshape(count, summands)
    product = _Product(terms, rows, summed, outputs, weights, offset.reshape(count))
    return product if _are_bits(weights, is_any=terms.two is None) else None


def _are_bits(weights: Floats, is_any: bool) -> bool:
    """True where each row is ±α; of bits also where it has two values, or has zeros besides."""
    magnitudes = np.abs(weights)
    largest = magnitudes.max(axis=1, keepdims=True)
    if not np.all(largest):
        return False
    if is_any:
        return bool(np.all(magnitudes == largest))
    rows = np.all((magnitudes == largest) | (magnitudes == 0), axis=1)
    low, high = weights.min(axis=1, keepdims=True), weights.max(axis=1, keepdims=True)
    return bool(np.all(rows | np.all((weights == low) | (weights == high), axis=1)))


def _write(graph: ir.Graph, node: ir.Node, product: _Product) -> None:
    """Put the product in the place of `node`."""
    y, terms, writer = node.outputs[0], product.terms, _Writer(graph, node)
    read, yielded = [*product.rows, *product.summed], [*product.rows, *product.outputs]
    value = writer.signs(terms)
    sizes = [terms.own[axis] for axis in sorted(read)]
    if [size for size in _shape(value) if size > 1] != sizes:
        value = writer.shaped(value, sizes)
    ones = _shape(value).count(1)  # in front, as the batch of a map
    value = writer.ordered(value, [size > 1 for size in _shape(value)], sorted(read), read)
    rows = [1] * ones + [terms.own[axis] for axis in product.rows]
    count, summands = product.weights.shape
    value = writer.shaped(value, [*(rows or [1]), summands])
    value = writer.computed("MatMul", value, np.ascontiguousarray(product.weights.T), count)
    if np.any(product.offsets):
        value = writer.computed("Add", value, product.offsets, count)
    if node.op_type == "ReduceMean":
        value = writer.computed("Div", value, _count(terms.shape, _axes(node) or ()), count)
    elif node.op_type == "ReduceL2":
        value = writer.add("Sqrt", [value], _shape(value))
    value = writer.shaped(value, [*rows, *(terms.shape[axis] for axis in product.outputs)])
    value = writer.ordered(value, [False] * ones + [True] * len(yielded), yielded, sorted(yielded))
    value = writer.shaped(value, _shape(y))
    largest = np.max(np.abs(product.weights).sum(axis=1) + np.abs(product.offsets))
    if y.dtype in INTEGERS and largest < EXACT:
        replace_by_floats(graph, node, value, float(largest))
        return
    if y.dtype is not None and y.dtype is not ir.DataType.FLOAT:
        value = writer.add("Cast", [value], _shape(y), dtype=y.dtype, to=int(y.dtype))
    take_over(y, value)
    graph.remove(node, safe=True)


@dataclass(frozen=True)
class _Writer:
    """Of nodes in front of `node`."""

    graph: ir.Graph
    node: ir.Node

    def add(self, op_type: str, inputs: list[ir.Value], shape: Sequence[int], **attributes: Any) -> ir.Value:
        return put(self.graph, self.node, op_type, inputs, tuple(shape), **attributes)

    def computed(self, op_type: str, value: ir.Value, number: npt.ArrayLike, last: int) -> ir.Value:
        """`value` and a constant, of which there are `last` along the last axis."""
        return self.add(op_type, [value, self.constant(number)], [*_shape(value)[:-1], last])

    def constant(self, numbers: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> ir.Value:
        return new_constant(self.graph, np.asarray(numbers, dtype), f"{self.node.outputs[0].name}/constant")

    def shaped(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        if _shape(value) == tuple(shape):
            return value
        return self.add("Reshape", [value, self.constant(shape, np.int64)], shape)

    def ordered(self, value: ir.Value, are_axes: Sequence[bool], axes: list[int], wanted: list[int]) -> ir.Value:
        """Its `axes`, where are_axes says so, as `wanted`; the others in front."""
        others = [place for place, is_axis in enumerate(are_axes) if not is_axis]
        places = [place for place, is_axis in enumerate(are_axes) if is_axis]
        order = (*others, *(places[axes.index(axis)] for axis in wanted))
        if order == tuple(range(len(order))):
            return value
        return self.add("Transpose", [value], [_shape(value)[place] for place in order], perm=order)

    def signs(self, terms: _Terms) -> ir.Value:
        """±1, for whether the source is its upper or its lower value; the source itself where that may be any."""
        value = terms.source
        while (move := value.producer()) is not None and move.domain == "" and move.op_type in RESHAPES:
            if (source := move.inputs[0]) is None:
                break
            value = source
        if terms.two is None or (value.dtype is ir.DataType.FLOAT and is_signs(value)):
            return value
        if value.dtype is not ir.DataType.BOOL:
            if value.dtype is not ir.DataType.FLOAT:
                value = self.add("Cast", [value], _shape(value), to=int(ir.DataType.FLOAT))
            if is_signs(value):
                return value
            middle = self.constant(sum(terms.two) / 2)
            value = self.add("Greater", [value, middle], _shape(value), dtype=ir.DataType.BOOL)
        return self.add("Where", [value, self.constant(1.0), self.constant(-1.0)], _shape(value))


def _shape(value: ir.Value) -> tuple[int, ...]:
    return shape_of(value) or ()
