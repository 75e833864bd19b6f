"""Put the sum of several layers in place of one whose weights are a sum of ±1 filters.

    Before:  x ─ Conv(W = W₀ + W₁, b) ─ y
    After:   x ─ Conv(W₀, b) ─ u;   x ─ Conv(W₁) ─ v ─ spread ─ Add(u) ─ y

The layers read the same bits.  W₁ may have filters for some rows of W only: `spread` is a Pad of zero channels where
they are neighbours, else a Gather.  A layer whose one term is for several copies of the input reads a Concat of them:

    After:   x ─ Concat(x, x) ─ Conv([W₀, W₁], b) ─ y

An input may be a sum as well, of values that are ±1: then the layers have the same weights.

    Before:  x = v₀ + v₁ ─ Conv(W, b) ─ y
    After:   v₀ ─ Conv(W, b) ─ u;   v₁ ─ Conv(W) ─ v ─ Add(u) ─ y

A constant that is a term of it is one behind the first layer.

How the weights are split is `weight_terms`, how the input is, `few_levels`.  An affine behind the sum goes into its
binary convolutions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import (
    CONV_KEY,
    INPUT_CHANNELS_KEY,
    INPUT_TERM_KEY,
    OUTPUT_CHANNELS_KEY,
    WEIGHT_TERM_KEY,
    WEIGHT_THRESHOLDS_KEY,
    constant_of,
    new_constant,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.passes.affine import Affine, affine_of
from bnncc.passes.insertion import insert
from bnncc.passes.kept_order import must_stay
from bnncc.passes.weight_terms import Term, Terms


def expand(graph: ir.Graph, node: ir.Node, terms: Terms) -> tuple[list[ir.Node], ir.Value]:
    """Replace `node` by a layer for each term and what adds them.

    Returns (the layers in the order of the terms, their sum).
    """
    y = node.outputs[0]
    layers = [_layer(graph, node, term, index) for index, term in enumerate(terms.terms)]
    for layer in layers:
        layer.metadata_props[WEIGHT_TERM_KEY] = terms.clause
    total = layers[0].outputs[0]
    for layer, term in zip(layers[1:], terms.terms[1:], strict=True):
        part = _spread(graph, node, layer.outputs[0], term)
        name = f"{layer.outputs[0].name}/sum"
        total = insert(graph, ir.node("Add", [total, part]), node, name=name, like=y)
    take_over(y, total)
    graph.remove(node, safe=True)
    return layers, total


def expand_input(
    graph: ir.Graph,
    node: ir.Node,
    values: Sequence[ir.Value],
    clause: str | None,
    constant: npt.NDArray[np.generic] | None = None,
) -> tuple[list[ir.Node], ir.Value]:
    """Replace `node` by a layer of the same weights for each of `values`, which add up to its input, and their sum.

    clause: for the report.  constant: what else the layer yields, as its input has a constant term that no value has;
    it broadcasts to the output.  Returns (the layers in the order of the values, their sum).
    """
    y = node.outputs[0]
    layers = []
    for index, value in enumerate(values):
        bias = list(node.inputs[2:]) if index == 0 else []
        layer = ir.node(node.op_type, [value, node.inputs[1], *bias], dict(node.attributes))
        layer.metadata_props.update(node.metadata_props)
        layer.metadata_props.setdefault(CONV_KEY, y.name or "")
        if clause is not None:
            layer.metadata_props[INPUT_TERM_KEY] = clause
        insert(graph, layer, node, name=f"{y.name}/bit{index}", like=y)
        layers.append(layer)
    total = layers[0].outputs[0]
    if constant is not None and np.any(constant):
        added = new_constant(graph, constant, f"{y.name}/constant")
        total = insert(graph, ir.node("Add", [total, added]), node, name=f"{total.name}/shifted", like=y)
    for layer in layers[1:]:
        name = f"{layer.outputs[0].name}/sum"
        total = insert(graph, ir.node("Add", [total, layer.outputs[0]]), node, name=name, like=y)
    take_over(y, total)
    graph.remove(node, safe=True)
    return layers, total


def _layer(graph: ir.Graph, node: ir.Node, term: Term, index: int) -> ir.Node:
    y, x, weight = node.outputs[0], node.inputs[0], node.inputs[1]
    given, shape = constant_of(weight), shape_of(y)
    assert x is not None
    assert given is not None
    assert shape is not None
    name = f"{y.name}/term{index}"
    copies = len(term.thresholds)
    if copies > 1:
        before = shape_of(x) or ()
        copied = (before[0], before[1] * copies, *before[2:])
        joined = ir.node("Concat", [x] * copies, {"axis": 1})
        x = insert(graph, joined, node, name=f"{name}/copies", like=x, shape=copied)
    filters = term.filters
    if node.op_type != "Conv" and not node.attributes.get_int("transB", 0):
        filters = filters.T
    bias = list(node.inputs[2:]) if index == 0 else []
    layer = ir.node(node.op_type, [x, new_constant(graph, filters.astype(given.dtype), f"{name}/weight"), *bias])
    layer.attributes.update(node.attributes)
    axis = channel_axis(node)
    own = (*shape[:axis], len(term.rows), *shape[axis + 1 :])
    insert(graph, layer, node, name=name, like=y, shape=own)
    layer.metadata_props.update(node.metadata_props)
    layer.metadata_props.setdefault(CONV_KEY, y.name or "")
    layer.metadata_props[WEIGHT_THRESHOLDS_KEY] = json.dumps(term.thresholds)
    if term.rows != tuple(range(shape[axis])):
        layer.metadata_props[OUTPUT_CHANNELS_KEY] = json.dumps(term.rows)
    if copies > 1:
        layer.metadata_props[INPUT_CHANNELS_KEY] = json.dumps([*range((shape_of(x) or ())[1] // copies)] * copies)
    return layer


def channel_axis(node: ir.Node) -> int:
    """The axis of a layer's output along which its filters lie."""
    return 1 if node.op_type == "Conv" else len(shape_of(node.outputs[0]) or ()) - 1


def _spread(graph: ir.Graph, node: ir.Node, value: ir.Value, term: Term) -> ir.Value:
    """A term's result with all of the layer's channels, 0 in those that it is no part of."""
    y, axis = node.outputs[0], channel_axis(node)
    shape = shape_of(y) or ()
    channels = shape[axis]
    rows = np.array(term.rows)
    if term.factors is not None:
        return _times(graph, node, value, term.factors)
    if len(rows) == channels:
        return value
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        return _pad(graph, node, value, (first, channels - 1 - last), f"{value.name}/spread")
    # A Gather reads the zeros of the other channels from one that is added behind.
    widened = _pad(graph, node, value, (0, 1), f"{value.name}/widened")
    index = np.full(channels, len(rows), np.int64)
    index[rows] = np.arange(len(rows))
    gather = ir.node("Gather", [widened, new_constant(graph, index, f"{value.name}/channels")], {"axis": axis})
    return insert(graph, gather, node, name=f"{value.name}/spread", like=y)


def _times(graph: ir.Graph, node: ir.Node, value: ir.Value, factors: npt.NDArray[np.float64]) -> ir.Value:
    """A result of one channel times a factor for each of the layer's; for one factor in all, it is in the filter."""
    y, axis = node.outputs[0], channel_axis(node)
    along = [1] * len(shape_of(y) or ())
    along[axis] = factors.size
    constant = new_constant(graph, factors.astype(np.float32).reshape(along), f"{value.name}/factors")
    return insert(graph, ir.node("Mul", [value, constant]), node, name=f"{value.name}/spread", like=y)


def _pad(graph: ir.Graph, node: ir.Node, value: ir.Value, amounts: tuple[int, int], name: str) -> ir.Value:
    shape = shape_of(value) or ()
    axis = channel_axis(node)
    pads = np.zeros(2 * len(shape), np.int64)
    pads[axis], pads[len(shape) + axis] = amounts
    grown = (*shape[:axis], shape[axis] + sum(amounts), *shape[axis + 1 :])
    padded = ir.node("Pad", [value, new_constant(graph, pads, f"{name}/pads")])
    return insert(graph, padded, node, name=name, like=value, shape=grown)


def fold_behind(graph: ir.Graph, total: ir.Value, layers: Sequence[ir.Node | None], terms: Sequence[Term] = ()) -> None:
    """Take the affines behind the sum `total` into the BinaryConvs that compute it, where all are such.

    terms: what each is of the weights; none where each has all filters.
    """
    add = total.producer()
    known = [layer for layer in layers if layer is not None and ops.is_binary_conv(layer)]
    if add is None or len(known) < len(layers):
        return
    last, affines = add, list[Affine]()
    while (following := sole_consumer(graph, last.outputs[0])) is not None:
        step = affine_of(following)
        if step is None:
            break
        affines.append(step[1])
        last = following
    if last is add or must_stay(last.outputs[0], affines):
        return
    affine = functools.reduce(Affine.then, affines)
    for index, layer in enumerate(known):
        first = index == 0
        term = terms[index] if terms else None
        if term is not None and term.factors is not None:
            spread = next(iter(layer.outputs[0].uses())).node
            factors = constant_of(spread.inputs[1])
            assert factors is not None
            scaled = factors.astype(np.float64) * affine.scale.reshape(1, -1, 1, 1)
            spread.replace_input_with(
                1, new_constant(graph, scaled.astype(np.float32), f"{layer.outputs[0].name}/factors")
            )
            continue
        multiplier, bias = (constant_of(layer.inputs[index]) for index in (2, 3))
        assert multiplier is not None
        assert bias is not None
        every = range(len(multiplier))
        rows = [*every] if term is None else [row if row >= 0 else -1 - row for row in term.rows]
        shift = affine.shift[rows] if first else np.zeros(len(rows))
        folded = Affine(multiplier.astype(np.float64), bias.astype(np.float64)).then(Affine(affine.scale[rows], shift))
        for index, vector, name in ((2, folded.scale, "multiplier"), (3, folded.shift, "bias")):
            constant = new_constant(graph, vector.astype(np.float32), f"{layer.outputs[0].name}/{name}")
            layer.replace_input_with(index, constant)
    chain = [last]
    while chain[-1] is not add:
        previous = affine_of(chain[-1])
        assert previous is not None
        producer = previous[0].producer()
        assert producer is not None
        chain.append(producer)
    take_over(last.outputs[0], total)
    for node in chain[:-1]:
        graph.remove(node, safe=True)
