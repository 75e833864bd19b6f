"""A computed scale of the rows of a product goes behind it: it commutes.

    Before:  S [N, I] ─ Mul(r [N, 1]) ─ Gemm(W, b) ─ y          S = ±1, or an affine of it
    After:   S ─ Gemm(W) ─ Mul(r) ─ Add(b) ─ y                  (S·r)·Wᵀ + b = (S·Wᵀ)·r + b

r, such as mean|x| of each row, may be anything, of either sign; it may not vary along what the product sums over.  For
a convolution it is one number an image, [N, 1, 1, 1], which zero padding does not touch, or one a pixel in front of a
1x1 kernel, of which strides leave some.  A divisor is a scale too.  Between Mul and layer may stand a constant scale,
and for one number an image what keeps the images apart, such as a Flatten.  A part of scaled signs, as the steps of a
recurrent network read, is first written as that part of the signs times that of the scales; so are rows that a Reshape
counts otherwise:

    Before:  S [T, N, I] ─ Mul(r [T, N, 1]) ─ Gather(t) ─ Gemm
    After:   S of the Gather(t) ─ Mul(r ─ Gather(t)) ─ Gemm

The layer then reads signs.  Which value of the network they are is left in its metadata, as it is no input of a layer
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import CONV_KEY, LAYER_INPUT_KEY, constant_of, new_constant, shape_of, take_over
from bnncc.ir.value_facts import is_binary
from bnncc.passes.affine import affine_of
from bnncc.passes.binary_operand import binary_operand
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert, insert_reshape
from bnncc.passes.positive import is_positive
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.weight_terms import is_sum_of_signs
from bnncc.passes.weighted_layer import LAYERS, is_read_by_layer, output_first

# Parts of signs, and the network's value that has the same signs: the same part, scaled.
Parts = dict[ir.Value, str]


@dataclass(frozen=True)
class RowScale:
    """`signs` times `scale`, or over it where the operator is a Div; `between`, last one first, stands behind that."""

    signs: ir.Value
    scale: ir.Value
    operator: str
    between: tuple[ir.Node, ...]


class SinkRowScales(ir.passes.InPlacePass):
    """Rewrite every layer of constant weights that are sums of ±1, with a scaled binary input."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        parts: Parts = {}
        parted = False
        while rewrite_each(model.graph, partial(_part, parts)):
            parted = True
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, partial(_sink, parts)) or parted)


def _part(parts: Parts, graph: ir.Graph, node: ir.Node) -> bool:
    """Let a layer's input that is a part of positively scaled signs be that part of both."""
    x = node.inputs[0] if node.domain == "" and node.op_type in ("Gather", "Slice", *RESHAPES) else None
    product, shape, y = x.producer() if x is not None else None, shape_of(x) if x is not None else None, node.outputs[0]
    if product is None or not shape or any(constant_of(value) is None for value in node.inputs[1:]):
        return False
    if product.op_type not in ("Mul", "Div") or product.domain != "" or not is_read_by_layer(y):
        return False
    found = factors(product, shape)
    if found is None or not is_positive(found[1]) or not is_binary(found[0]) or found[0].metadata_props:
        return False
    signs, scale = found
    scales = _moved_scales(node, shape, shape_of(scale) or (), shape_of(y) or ())
    if scales is None:
        return False
    name = y.name or "part"
    sign = signs.producer()
    source = sign.inputs[0] if ops.is_sign(sign) and sign is not None else signs
    moved = ir.node(node.op_type, [source, *node.inputs[1:]], dict(node.attributes))
    first = insert(graph, moved, node, name=f"{name}/signs", like=y)
    if source is not signs:  # Of three axes the bits are packed along the second: they are made of the part.
        first.name = f"{name}/floats"
        first = insert(graph, ops.sign(first), node, name=f"{name}/signs", like=y, origin=sign)
    if node.op_type in RESHAPES:
        second = insert_reshape(graph, scale, scales, f"{name}/scales", node)
    else:
        moved = ir.node(node.op_type, [scale, *node.inputs[1:]], dict(node.attributes))
        second = insert(graph, moved, node, name=f"{name}/scales", like=y, shape=scales)
    parts[first] = name
    take_over(y, insert(graph, ir.node(product.op_type, [first, second]), node, name=f"{name}/scaled", like=y))
    graph.remove(node, safe=True)
    remove_unread(graph, [product])
    return True


def _moved_scales(
    node: ir.Node, shape: tuple[int, ...], size: tuple[int, ...], result: tuple[int, ...]
) -> tuple[int, ...] | None:
    """The shape of the scales of what `node` makes of an input of this `shape`, where it does the same to scales of
    this `size`; None where it does not, and where `row_scale` looks through it.
    """
    if not result or len(size) != len(shape):
        return None
    if node.op_type in RESHAPES:
        rows = (*shape[:-1], 1) == size and shape[-1] == result[-1] and shape[0] != result[0]
        return (*result[:-1], 1) if rows else None
    axes = _moved_axes(node, len(shape))
    if any(size[axis] != shape[axis] for axis in axes):
        return None
    dropped = len(shape) > len(result)  # a Gather of one number has an axis less
    kept = [axis for axis in range(len(shape)) if not dropped or axis not in axes]
    return tuple(result[place] if size[axis] == shape[axis] else 1 for place, axis in enumerate(kept))


def _moved_axes(node: ir.Node, rank: int) -> list[int]:
    """The axes along which a Gather or Slice takes a part."""
    if node.op_type == "Gather":
        return [node.attributes.get_int("axis", 0) % rank]
    axes = constant_of(node.inputs[3]) if len(node.inputs) > 3 else None
    return list(range(rank)) if axes is None else [int(axis) % rank for axis in axes.reshape(-1)]


def _sink(parts: Parts, graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in LAYERS or len(node.inputs) < 2:
        return False
    changed = False
    while (found := row_scale(node)) is not None and (changed or has_binary_weights(node)):
        node = _rewrite(graph, node, found, parts)
        changed = True
    return changed


def has_binary_weights(node: ir.Node) -> bool:
    """True for constant weights that binary convolutions can say, and a bias that can stand behind the product."""
    filters = constant_of(node.inputs[1])
    if filters is None or (len(node.inputs) > 2 and node.inputs[2] is not None and constant_of(node.inputs[2]) is None):
        return False
    if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1:
        return False
    if node.op_type != "Conv":
        filters = output_first(node, filters)
    return filters.ndim > 1 and is_sum_of_signs(filters, node.attributes.get_int("group", 1))


def row_scale(node: ir.Node, x: ir.Value | None = None, moved: bool = False) -> RowScale | None:
    """The last scale in front of a layer, or of what the layer reads `x` of, `moved` or not."""
    x = x or node.inputs[0]
    between: list[ir.Node] = []
    while x is not None and (producer := x.producer()) is not None and producer.domain == "":
        shape = shape_of(x)
        if shape is None or len(shape) < 2:
            return None
        if producer.op_type in ("Mul", "Div") and (found := factors(producer, shape)) is not None:
            signs, scale = found
            moved |= bool(between)
            if not _commutes(node, scale, len(shape), moved):
                return None
            if binary_operand(signs) is None and row_scale(node, signs, moved) is None:
                return None
            return RowScale(signs, scale, producer.op_type, tuple(between))
        step = affine_of(producer)
        before = shape_of(producer.inputs[0]) if producer.inputs[0] is not None else None
        if step is not None and not np.any(step[1].shift):
            between.append(producer)
            x = step[0]
        elif producer.op_type in RESHAPES and before and before[0] == shape[0]:
            between.append(producer)
            x = producer.inputs[0]
        else:
            return None
    return None


def factors(node: ir.Node, shape: tuple[int, ...]) -> tuple[ir.Value, ir.Value] | None:
    """(the operand of the whole shape, the smaller one) of a Mul or Div, both computed."""
    first, second = node.inputs
    if first is None or second is None or constant_of(first) is not None or constant_of(second) is not None:
        return None
    sizes = shape_of(first), shape_of(second)
    if sizes[0] == shape and sizes[1] is not None and sizes[1] != shape:
        return first, second
    if node.op_type == "Mul" and sizes[1] == shape and sizes[0] is not None and sizes[0] != shape:
        return second, first
    return None


def _commutes(node: ir.Node, scale: ir.Value, rank: int, moved: bool) -> bool:
    """True where the scale of an input of so many axes varies along none that the layer sums over."""
    given = shape_of(scale) or ()
    size = (1,) * (rank - len(given)) + given
    if all(one == 1 for one in size[1:]):
        return True
    if moved or node.op_type == "Gemm":
        return False
    if node.op_type == "MatMul":
        return size[-1] == 1
    kernel = (shape_of(node.inputs[1]) or ())[2:] if node.inputs[1] is not None else ()
    return size[1] == 1 and all(one == 1 for one in kernel) and _adds_no_pixels(node)


def _adds_no_pixels(conv: ir.Node) -> bool:
    """True for a convolution without padding."""
    padded = "auto_pad" in conv.attributes and conv.attributes["auto_pad"].as_string() not in ("NOTSET", "VALID")
    return not padded and not ("pads" in conv.attributes and any(conv.attributes["pads"].as_ints()))


def _strided(graph: ir.Graph, scale: ir.Value, conv: ir.Node) -> ir.Value:
    """Of a scale [N, 1, H, W] what the windows of a 1x1 kernel, or kernel of one tap, read."""
    size = shape_of(scale) or ()
    strides = conv.attributes["strides"].as_ints() if "strides" in conv.attributes else ()
    axes = [axis for axis, step in enumerate(strides, len(size) - len(strides)) if step > 1 and size[axis] > 1]
    if conv.op_type != "Conv" or not axes:
        return scale
    steps = [strides[axis - len(size) + len(strides)] for axis in axes]
    name = f"{conv.outputs[0].name}/row_scale"
    numbers = [[0] * len(axes), [size[axis] for axis in axes], axes, steps]
    operands = [
        new_constant(graph, np.asarray(one, np.int64), f"{name}/{what}")
        for one, what in zip(numbers, ("begins", "ends", "axes", "steps"), strict=True)
    ]
    shape = [-(-length // steps[axes.index(axis)]) if axis in axes else length for axis, length in enumerate(size)]
    return insert(graph, ir.node("Slice", [scale, *operands]), conv, name=name, like=scale, shape=shape)


def _rewrite(graph: ir.Graph, node: ir.Node, found: RowScale, parts: Parts) -> ir.Node:
    """The layer of the signs, which takes the place of `node`."""
    y, old = node.outputs[0], node.inputs[0]
    name, shape = y.name or "scaled", shape_of(y) or ()
    x = found.signs
    for passed in found.between[::-1]:
        inputs = [x if value is not None and constant_of(value) is None else value for value in passed.inputs]
        copy = ir.node(passed.op_type, inputs, dict(passed.attributes))
        x = insert(graph, copy, node, name=f"{passed.outputs[0].name}/unscaled", like=passed.outputs[0], origin=passed)
    layer = ir.node(node.op_type, [x, node.inputs[1]], dict(node.attributes))
    layer.metadata_props.update(node.metadata_props)
    layer.metadata_props.setdefault(CONV_KEY, name)
    layer.metadata_props[LAYER_INPUT_KEY] = parts.get(found.signs, found.signs.name or "")
    value = insert(graph, layer, node, name=f"{name}/unscaled", like=y)
    scale, size = found.scale, shape_of(found.scale) or ()
    if found.between and len(size) > 1:
        scale = insert_reshape(graph, scale, (size[0], *(1,) * (len(shape) - 1)), f"{name}/row_scale", node)
    scale = _strided(graph, scale, node)
    value = insert(graph, ir.node(found.operator, [value, scale]), node, name=f"{name}/scaled", like=y)
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and np.any(bias):
        added = (bias * np.asarray(node.attributes.get_float("beta", 1.0), bias.dtype)).astype(bias.dtype)
        if node.op_type == "Conv":
            added = added.reshape(-1, *(1,) * (len(shape) - 2))
        constant = new_constant(graph, added, f"{name}/bias")
        value = insert(graph, ir.node("Add", [value, constant]), node, name=f"{name}/biased", like=y)
    take_over(y, value)
    graph.remove(node, safe=True)
    remove_unread(graph, [old.producer() if old is not None else None])
    return layer
