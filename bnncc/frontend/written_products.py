"""Products with weights of ±1 that a network writes out, as the MatMul that they are: XNOR and a count, or a sum.

    Before:  x [B, 1, K] = ±1, w [N, K] = ±1 ─ Equal ─ Cast ─ ReduceSum(-1) ─ y [B, N]
    After:   x ─ Reshape [B, K] ─ MatMul(wᵀ) ─ Mul(½) ─ Add(K/2) ─ y              of ±1, K equal ones less the others

    Before:  x [B, 1, K], w [N, K] = ±α_n ─ Mul ─ ReduceSum(-1) ─ y [B, N]
    After:   x ─ Reshape [B, K] ─ MatMul(wᵀ) ─ y

    Before:  x, w of integers, no sum 2²⁴ or more ─ MatMul ─ y
    After:   x, w ─ Casts to float ─ MatMul ─ Cast ─ y                           only float32 has a kernel

Several axes may be summed up, as channels and taps, and several be outputs; a `Not` in front of the sum counts the
others.  What is compared must be ±1 whatever the input: a choice between them, moved and padded; a torch.sign may be 0.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.evaluate import computed_constant
from bnncc.ir.graph import inherit_source, known_array, new_constant, shape_of, take_over, unique_name
from bnncc.ir.value_facts import MOVES, data_inputs

# How far back a value is looked at that may be ±1.
DEPTH = 20

_INTEGERS = {ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64}
_SIGNED = _INTEGERS | {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
# What has its input's elements in its input's order.
_RESHAPES = {"Unsqueeze", "Squeeze", "Reshape", "Flatten"}

_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
}


@dataclass(frozen=True)
class _Product:
    """x [rows, K] times `weights` [N, K], where x is a Reshape of `source`; `counted`: how many terms are equal (1) or
    are not (-1), 0 where the terms themselves are added up.
    """

    source: ir.Value
    weights: npt.NDArray[np.float32]
    counted: int


def express_products(model: ir.Model) -> None:
    """In place; shapes and types are known."""
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "ReduceSum":
            product = _product(node)
            if product is not None:
                _write(model.graph, node, product)
        elif node.domain == "" and node.op_type == "MatMul" and _is_exact_in_floats(node):
            _compute_in_floats(model.graph, node)


def _is_exact_in_floats(node: ir.Node) -> bool:
    """True for a product of integers, none of whose sums can reach what float32 rounds."""
    a, b = node.inputs
    shape = None if a is None else shape_of(a)
    if node.outputs[0].dtype not in _INTEGERS or not shape:
        return False
    limits = [limit for factor in (a, b) if (limit := _largest(factor)) is not None]
    return len(limits) == 2 and math.prod(limits) * shape[-1] < 2**24


def _compute_in_floats(graph: ir.Graph, node: ir.Node) -> None:
    y = node.outputs[0]
    factors = [
        _put(graph, node, "Cast", [factor], shape_of(factor) or (), to=int(ir.DataType.FLOAT))
        for factor in node.inputs
        if factor is not None
    ]
    shape = shape_of(y) or ()
    value = _put(graph, node, "MatMul", factors, shape)
    value = _put(graph, node, "Cast", [value], shape, to=int(y.dtype or ir.DataType.INT64))
    value.type = y.type
    take_over(y, value)
    graph.remove(node, safe=True)


def _largest(value: ir.Value | None, depth: int = DEPTH) -> float | None:
    """No element of `value` is further from 0 than this, whatever the input is; None where that is not known."""
    if value is None or not depth:
        return None
    array = computed_constant(value)
    if array is not None:
        return float(np.abs(array.astype(np.float64)).max(initial=0))
    if _is_signs(value) or value.dtype is ir.DataType.BOOL:
        return 1
    node = value.producer()
    if node is None or node.domain != "" or value.dtype not in _SIGNED:
        return None
    if node.op_type == "Where":
        read = node.inputs[1:]
    elif node.op_type in ("Cast", "Neg", "Abs"):
        read = node.inputs[:1]
    elif node.op_type in MOVES:
        read = tuple(data_inputs(node))
    else:
        pair = _of_boolean(value)
        return None if pair is None else max(map(abs, pair))
    limits = [limit for source in read if (limit := _largest(source, depth - 1)) is not None]
    return max(limits) if limits and len(limits) == len(read) and max(limits) < 128 else None


def _product(node: ir.Node) -> _Product | None:
    terms, counted = _terms(node.inputs[0])
    axes = known_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if terms is None or axes is None:
        return None
    for x, w in (terms.inputs, terms.inputs[::-1]):
        size = None if x is None or w is None else _size(x, w, [int(axis) for axis in axes.ravel()])
        if size is None or x is None or w is None:
            continue
        exact = counted or x.dtype is not ir.DataType.FLOAT
        if exact and not _is_signs(x):
            continue
        array = computed_constant(w)
        if array is None or not array.size:
            continue
        weights = array.astype(np.float32).reshape(size)
        magnitudes = np.abs(weights)
        if np.all(magnitudes == (1 if exact else magnitudes[:, :1])) and np.all(magnitudes):
            return _Product(x, weights, counted)
    return None


def _terms(value: ir.Value | None) -> tuple[ir.Node | None, int]:
    """(the Mul or Equal whose results are added up, what of them is counted)."""
    node, counted = None if value is None else value.producer(), 1
    if node is not None and node.domain == "" and node.op_type == "Mul":
        return node, 0
    while node is not None and node.domain == "" and node.op_type in ("Cast", "Identity", "Not"):
        counted = -counted if node.op_type == "Not" else counted
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    is_comparison = node is not None and node.domain == "" and node.op_type == "Equal"
    return (node if is_comparison else None), counted


def _size(x: ir.Value, w: ir.Value, axes: list[int]) -> tuple[int, int] | None:
    """(outputs, summands) of the product of x [rows…, 1…, K…] and w [1…, N…, K…]; None where they are no such."""
    left, right = shape_of(x), shape_of(w)
    if left is None or right is None or not axes or not left or not right:
        return None
    rank = max(len(left), len(right))
    left, right = (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right
    first = rank - len(axes)
    if sorted(axis % rank for axis in axes) != list(range(first, rank)) or left[first:] != right[first:]:
        return None
    rows = [axis for axis in range(first) if left[axis] > 1]
    outputs = [axis for axis in range(first) if right[axis] > 1]
    count, summands = (int(np.prod([right[axis] for axis in group])) for group in (outputs, range(first, rank)))
    if count < 2 or summands < 2 or (rows and max(rows) >= min(outputs)):
        return None
    return count, summands


def _is_signs(value: ir.Value | None, depth: int = DEPTH) -> bool:
    """True for what is ±1 whatever the input is."""
    if value is None or not depth or value.dtype not in _SIGNED:
        return False
    array = _known(value)
    if array is not None:
        return bool(np.all(np.abs(array) == 1))
    node = value.producer()
    if node is None or node.domain != "":
        return False
    if node.op_type == "Where":
        return all(_is_signs(choice, depth - 1) for choice in node.inputs[1:])
    if node.op_type == "Pad":
        fill = _known(node.inputs[2]) if len(node.inputs) > 2 else None
        is_filled = node.attributes.get_string("mode", "constant") != "constant" or (
            fill is not None and abs(fill) == 1
        )
        return bool(is_filled) and _is_signs(node.inputs[0], depth - 1)
    if node.op_type in ("Neg", "Mul", "Cast", "CastLike"):
        given = node.inputs[:1] if node.op_type.startswith("Cast") else node.inputs
        if all(_is_signs(factor, depth - 1) for factor in given):
            return True
    if node.op_type in MOVES:
        return all(_is_signs(source, depth - 1) for source in data_inputs(node))
    return _of_boolean(value) in ((-1, 1), (1, -1))


def _known(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """A constant, cast or not."""
    array = known_array(value)
    while array is None and value is not None and (node := value.producer()) is not None:
        if node.domain != "" or node.op_type not in ("Cast", "CastLike"):
            return None
        value = node.inputs[0]
        array = known_array(value)
    return array


def _of_boolean(value: ir.Value) -> tuple[float, float] | None:
    """(what `value` is of False, of True), where it is a boolean, cast, times numbers and plus numbers."""
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Cast":
        source = node.inputs[0]
        return (0, 1) if source is not None and source.dtype is ir.DataType.BOOL else None
    if node.op_type not in _OPERATORS:
        return None
    left, right = node.inputs
    compute = _OPERATORS[node.op_type]
    if (number := _number(left)) is not None and right is not None:
        pair = _of_boolean(right)
        return None if pair is None else (compute(number, pair[0]), compute(number, pair[1]))
    if (number := _number(right)) is not None and left is not None:
        pair = _of_boolean(left)
        return None if pair is None else (compute(pair[0], number), compute(pair[1], number))
    return None


def _number(value: ir.Value | None) -> float | None:
    array = _known(value)
    return float(array.item()) if array is not None and array.size == 1 else None


def _write(graph: ir.Graph, node: ir.Node, product: _Product) -> None:
    """Put the product in the place of `node`."""
    y = node.outputs[0]
    count, summands = product.weights.shape
    shape = shape_of(y) or ()
    rows = int(np.prod(shape)) // count
    value = product.source
    while (move := value.producer()) is not None and move.domain == "" and move.op_type in _RESHAPES:
        if (source := move.inputs[0]) is None:
            break
        value = source
    if value.dtype is not ir.DataType.FLOAT:
        value = _put(graph, node, "Cast", [value], shape_of(value) or (), to=int(ir.DataType.FLOAT))
    value = _put(graph, node, "Reshape", [value, _constant(graph, y, [rows, summands])], (rows, summands))
    weights = new_constant(graph, np.ascontiguousarray(product.weights.T), f"{y.name}/weight")
    value = _put(graph, node, "MatMul", [value, weights], (rows, count))
    if product.counted:
        half, ones = (_constant(graph, y, number, np.float32) for number in (product.counted / 2, summands / 2))
        value = _put(graph, node, "Mul", [value, half], (rows, count))
        value = _put(graph, node, "Add", [value, ones], (rows, count))
    value = _put(graph, node, "Reshape", [value, _constant(graph, y, shape)], shape)
    if y.dtype is not None and y.dtype is not ir.DataType.FLOAT:
        value = _put(graph, node, "Cast", [value], shape, to=int(y.dtype))
        value.type = y.type
    take_over(y, value)
    graph.remove(node, safe=True)


def _constant(graph: ir.Graph, y: ir.Value, numbers: object, dtype: type = np.int64) -> ir.Value:
    return new_constant(graph, np.asarray(numbers, dtype), f"{y.name}/constant")


def _put(
    graph: ir.Graph, before: ir.Node, op_type: str, inputs: list[ir.Value], shape: tuple[int, ...], **attributes: int
) -> ir.Value:
    """Put a node that yields floats in front of `before`, in whose source line it stands."""
    node = ir.node(op_type, inputs, attributes)
    result = node.outputs[0]
    name = before.outputs[0].name or ""
    result.name = unique_name(graph, f"{name}/{op_type}")
    node.name = f"{before.name}{result.name.removeprefix(name)}"
    result.shape, result.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    inherit_source([node], before)
    graph.insert_before(before, node)
    return result
