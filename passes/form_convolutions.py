"""Write a product with windows of a map, and one whose weights come first, as the convolution that it is.

    Before:  x [N, C, H, W] ─ Gather(rows) ─ Gather(columns) ─ Transpose ─ Reshape ─ u [N, C·KH·KW, L] ─ y = W u
    After:   x ─ Conv(W [O, C, KH, KW]) ─ Reshape ─ y [N, O, L]

However the windows are cut out of x (`moved_windows`); what pads x is a Pad in front.  So does uᵀ Wᵀ, whose result is
transposed.  What is computed of each element of the windows, as its sign, is computed of the map:

    Before:  x ─ Gather … Reshape ─ GreaterOrEqual(0) ─ Where(1, -1) ─ u ─ y = W u
    After:   x ─ GreaterOrEqual(0) ─ Where(1, -1) ─ Conv(W) ─ Reshape ─ y

Where nothing was unfolded, W u is a convolution of one tap.  Only weights of a few values are written so: they may run
as bits.  A stack of equal matrices is one:

    Before:  x [N, L, I] ─ MatMul(W [N, I, O], W[n] = W[0]) ─ y
    After:   x ─ MatMul(W[0]) ─ y
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of, new_constant, shape_of, unique_name
from bnncc.ir.value_facts import MOVES
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import is_elementwise, number_or_array, sole_sources
from bnncc.passes.insertion import insert, insert_reshape, replace_by_layer
from bnncc.passes.moved_windows import Windows, moved_source, windows_in
from bnncc.passes.weight_terms import takes_few_values

# Longest walk back from an operand.
MOST_NODES = 64


def may_be_convolution(node: ir.Node) -> bool:
    """True for a MatMul that `FormConvolutions` looks at: one whose first operand may be weights, whose second may be a
    stack of them, or that reads what is moved of a map.
    """
    if node.domain != "" or node.op_type != "MatMul":
        return False
    left, right = node.inputs
    ranks = len(_shape(left)), len(_shape(right))
    if ranks in ((2, 3), (3, 3)):
        return True
    # Constants may not be folded yet, here.
    return ranks in ((2, 2), (3, 2), (4, 2)) and (not _reads_input(left) or _comes_of_map(left))


def _reads_input(value: ir.Value | None) -> bool:
    """True for what is computed of an input, or of much."""
    pending, seen = [value], set[ir.Value]()
    while pending and len(seen) < MOST_NODES:
        one = pending.pop()
        if one is None or one in seen or constant_of(one) is not None:
            continue
        seen.add(one)
        if (node := one.producer()) is None:
            return True
        pending += node.inputs
    return bool(pending)


def _comes_of_map(value: ir.Value | None) -> bool:
    """True for what is moved and computed, element by element, of what has four axes or more."""
    pending, seen = [value], set[ir.Value]()
    while pending and len(seen) < MOST_NODES:
        one = pending.pop()
        node = one.producer() if one is not None else None
        if one is None or one in seen:
            continue
        seen.add(one)
        if len(_shape(one)) > 3:
            return True
        if node is not None and (is_elementwise(node) or (node.domain == "" and node.op_type in MOVES)):
            pending += node.inputs
    return False


class FormConvolutions(ir.passes.InPlacePass):
    """Rewrite every such product."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if not may_be_convolution(node):
        return False
    left, right = node.inputs
    first, second = _matrix(left), _matrix(right)
    if first is not None:
        weights, data, is_transposed = first, right, False
    elif second is not None and len(_shape(right)) == 3:
        node.replace_input_with(1, new_constant(graph, second, f"{node.outputs[0].name}/matrix"))
        return True
    elif second is not None:
        weights, data, is_transposed = second.T, left, True
    else:
        return False
    if data is None or not 2 <= len(_shape(data)) <= (4 if is_transposed else 3) or constant_of(data) is not None:
        return False
    if data.dtype != ir.DataType.FLOAT or not takes_few_values(weights):
        return False
    name = node.outputs[0].name or "product"
    whole = len(_shape(data)) > 2
    batch, inputs, length = (_shape(data)[0] if whole else 1), *_shape(data)[-2:]
    found = _windows(graph, data, is_transposed)
    if found is not None and not (is_transposed and found[0].kernel == (1, 1)):
        windows, source, nodes = found
        x = _computed_of_map(graph, node, windows.x, source, nodes)
        filters = np.empty_like(weights)
        filters[:, windows.taps] = weights
    elif is_transposed:
        return False
    else:
        windows = Windows(data, (1, 1), (1, 1), (1, 1), (1, length), np.arange(inputs))
        x = insert_reshape(graph, data, (batch, inputs, 1, length), unique_name(graph, f"{name}/columns"), node)
        filters = weights
    filters = filters.reshape(len(weights), _shape(x)[1], *windows.kernel)
    attributes = {
        "kernel_shape": windows.kernel, "strides": windows.strides, "dilations": windows.dilations, "pads": (0,) * 4,
    }  # fmt: skip
    conv = ir.node("Conv", [x, new_constant(graph, filters, f"{name}/filters")], attributes)
    outputs = len(weights)
    size = (_shape(x)[0], outputs, *windows.count)
    maps = insert(graph, conv, node, name=unique_name(graph, f"{name}/maps"), like=node.outputs[0], shape=size)
    order = (0, 2, 3, 1) if is_transposed else (0, 1, 2, 3) if whole or size[0] == 1 else (1, 0, 2, 3)
    turned = maps
    if order != (0, 1, 2, 3):
        turn, shape = ir.node("Transpose", [maps], {"perm": order}), tuple(size[axis] for axis in order)
        turned = insert(graph, turn, node, name=unique_name(graph, f"{name}/turned"), like=maps, shape=shape)
    result = insert_reshape(graph, turned, _shape(node.outputs[0]), unique_name(graph, f"{name}/rows"), node)
    replace_by_layer(graph, node, maps, result)
    return True


def _windows(
    graph: ir.Graph, data: ir.Value, is_transposed: bool
) -> tuple[Windows, ir.Value, Sequence[ir.Node]] | None:
    """The windows of a map that `data` [N, I, L], [I, L] or transposed is computed of, element by element: the moved
    value and the operators behind it, last one first.
    """
    taps, places = (2, 1) if is_transposed else (1, 2)
    axes = (0, taps, places) if len(_shape(data)) > 2 else (-1, taps - 1, places - 1)
    for source, nodes in _sources_in_map(data):
        windows = windows_in(graph, source, axes)
        if windows is not None:
            return windows, source, nodes
    return None


def _sources_in_map(data: ir.Value) -> Iterator[tuple[ir.Value, Sequence[ir.Node]]]:
    """Of `data` itself and what it is computed of, element by element and by numbers, what is moved of a map."""
    if _is_moved_of_map(data):
        yield data, ()
    for source, nodes in sole_sources(data, _opens, _computed_operands):
        if _is_moved_of_map(source) and shape_of(source) == shape_of(data):
            yield source, tuple(nodes)


def _is_moved_of_map(value: ir.Value) -> bool:
    x = moved_source(value)
    return x is not None and len(_shape(x)) == 4


def _opens(_value: ir.Value, node: ir.Node) -> bool:
    return (
        node.domain == ""
        and is_elementwise(node)
        and all(one is None or (array := number_or_array(one)) is None or array.size == 1 for one in node.inputs)
    )


def _computed_operands(node: ir.Node) -> list[ir.Value]:
    return [one for one in node.inputs if one is not None and number_or_array(one) is None]


def _computed_of_map(
    graph: ir.Graph, node: ir.Node, x: ir.Value, source: ir.Value, nodes: Sequence[ir.Node]
) -> ir.Value:
    """What `nodes`, last one first, compute of the map `x` in place of `source`; in front of `node`."""
    known, result = {source: x}, x
    for one in reversed(nodes):
        y = one.outputs[0]
        copy = ir.node(one.op_type, [known.get(value, value) for value in one.inputs if value is not None])
        copy.attributes.update(one.attributes)
        name = unique_name(graph, f"{y.name}/map")
        result = known[y] = insert(graph, copy, node, name=name, like=y, shape=_shape(x), origin=one)
    return result


def _matrix(value: ir.Value | None) -> np.ndarray | None:  # type: ignore[type-arg]
    """Weights [O, I], which may be repeated for a batch; None for what is computed from inputs."""
    expanded = _before(value, "Expand")
    array = constant_of(expanded or value)
    if array is None or array.ndim not in (2, 3):
        return None
    if array.ndim == 2:
        return array
    return array[0] if np.all(array == array[:1]) else None


def _before(value: ir.Value | None, operator: str) -> ir.Value | None:
    """What the operator of this type that computes `value` reads first."""
    node = value.producer() if value is not None else None
    return node.inputs[0] if node is not None and node.domain == "" and node.op_type == operator else None


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    return (shape_of(value) or ()) if value is not None else ()
