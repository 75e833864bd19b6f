"""A layer of joined maps of bits that have other levels each becomes the sum of layers, one for each run of levels.

    Before:  Concat(0.5 · S, T > 0) ─ Conv(W, b) ─ y              S, T = ±1: levels ±0.5, and 0 and 1
    After:   0.5 · S ─ Conv(W₁, b) ─ u;  T > 0 ─ Conv(W₂) ─ v ─ Add(u) ─ y

W₁ and W₂ are the input channels of W that each run has.  A binary convolution sums ±1, and cannot weigh its input
channels; but a convolution is the sum of those of its input's parts, and of each part the levels go behind the sum.
Neighbours of the same levels stay joined.  A Pad of H and W with zeros in front of the layer pads each part, and a map
that is flattened for a Linear is flattened part by part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import groupby

import onnx_ir as ir

from bnncc.ir.graph import (
    CONV_KEY,
    INPUT_CHANNELS_KEY,
    INPUT_LEVELS_KEY,
    INPUT_TERM_KEY,
    LAYER_INPUT_KEY,
    constant_of,
    new_constant,
    shape_of,
    take_over,
)
from bnncc.passes.binary_operand import binary_operand
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.few_levels import moves_terms
from bnncc.passes.insertion import insert
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.sink_row_scales import has_binary_weights
from bnncc.passes.weighted_layer import LAYERS

# A layer that would become more stays one in float: each takes a pass over the output to be added.
MOST_RUNS = 4

# The parts of a run, and their (scale, offset).
_Run = tuple[tuple[float, float], list[ir.Value]]


class SplitJoinedLevels(ir.passes.InPlacePass):
    """Split every layer of constant weights that are sums of ±1 whose input is such a Concat."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _split))


def is_split_behind(x: ir.Value) -> bool:
    """True where layers that can be split along their input's channels read `x`, moved or not, and they alone."""
    uses = x.uses()
    for use in uses:
        moved = use.node.outputs[0] if _is_move(use.node) else None
        if use.idx or not (_is_split(use.node) if moved is None else all(_is_split(one.node) for one in moved.uses())):
            return False
    return bool(uses) and not x.is_graph_output()


def _is_move(node: ir.Node) -> bool:
    """True for what each part may go through by itself."""
    return flattens(node) or (node.op_type == "Pad" and moves_terms(node))


def _is_split(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in LAYERS or len(node.inputs) < 2 or node.inputs[0] is None:
        return False
    if node.op_type != "Conv" and len(shape_of(node.inputs[0]) or ()) != 2:
        return False  # its features are not axis 1
    return node.attributes.get_int("group", 1) == 1 and has_binary_weights(node)


def _split(graph: ir.Graph, node: ir.Node) -> bool:
    if not _is_split(node) or node.inputs[0] is None:
        return False
    if INPUT_CHANNELS_KEY in node.metadata_props or LAYER_INPUT_KEY in node.metadata_props:
        return False
    x: ir.Value | None = node.inputs[0]
    move = node.inputs[0].producer()
    if move is not None and _is_move(move):
        x = move.inputs[0]
    else:
        move = None
    runs = _runs(x)
    # Offsets alone are constants behind the layer.
    if len({scale for (scale, _), _ in runs}) < 2 or len(runs) > MOST_RUNS:
        return False
    y = node.outputs[0]
    results: list[ir.Value] = []
    begin = 0
    for index, (levels, parts) in enumerate(runs):
        name = f"{y.name}/run{index}"
        value = _input(graph, node, parts, move, name)
        channels = range(begin, begin + _channels(value))
        begin = channels.stop
        bias = node.inputs[2:] if index == 0 else ()
        layer = ir.node(node.op_type, [value, _weights(graph, node, channels, name), *bias], dict(node.attributes))
        layer.metadata_props.update(node.metadata_props)
        layer.metadata_props.setdefault(CONV_KEY, y.name or "")
        layer.metadata_props[INPUT_CHANNELS_KEY] = json.dumps(list(channels))
        layer.metadata_props[INPUT_LEVELS_KEY] = json.dumps(levels)
        layer.metadata_props[INPUT_TERM_KEY] = f"its input taken apart into the {len(runs)} that have other levels"
        results.append(insert(graph, layer, node, name=name, like=y))
    total = results[0]
    for result in results[1:]:
        total = insert(graph, ir.node("Add", [total, result]), node, name=f"{result.name}/sum", like=y)
    take_over(y, total)
    graph.remove(node, safe=True)
    remove_unread(graph, [move or (None if x is None else x.producer())])
    return True


def _runs(x: ir.Value | None) -> list[_Run]:
    """The parts that `x` joins along its channels, by their levels; none where one of them is no map of two levels."""
    parts = [] if x is None else _parts(x)
    operands = [binary_operand(part) for part in parts] if len(parts) > 1 else []
    levels = [None if one is None else one.uniform for one in operands]
    known = [one for one in levels if one is not None]
    if len(known) != len(parts):
        return []
    pairs = zip(known, parts, strict=True)
    return [(level, [part for _, part in run]) for level, run in groupby(pairs, key=lambda pair: pair[0])]


def _parts(x: ir.Value) -> list[ir.Value]:
    node = x.producer()
    rank = len(shape_of(x) or ())
    if node is None or node.domain != "" or node.op_type != "Concat" or rank < 2:
        return [x]
    if node.attributes.get_int("axis", 0) % rank != 1:
        return [x]
    return [leaf for part in node.inputs if part is not None for leaf in _parts(part)]


def flattens(node: ir.Node) -> bool:
    """True where maps [N, C, …] become rows [N, C · …]."""
    x = node.inputs[0]
    before, after = (None if x is None else shape_of(x)) or (), shape_of(node.outputs[0]) or ()
    is_reshape = node.domain == "" and node.op_type in ("Flatten", "Reshape")
    return is_reshape and len(before) > 2 and len(after) == 2 and before[0] == after[0]


def _input(graph: ir.Graph, node: ir.Node, parts: Sequence[ir.Value], move: ir.Node | None, name: str) -> ir.Value:
    """What the layer of a run reads."""
    value = parts[0]
    shape = list(shape_of(value) or ())
    if len(parts) > 1:
        shape[1] = sum(map(_channels, parts))
        joined = ir.node("Concat", parts, {"axis": 1})
        value = insert(graph, joined, node, name=f"{name}/joined", like=value, shape=shape)
    if move is None:
        return value
    if move.op_type != "Pad":
        rows = ir.node("Flatten", [value], {"axis": 1})
        return insert(graph, rows, node, name=f"{name}/rows", like=value, shape=[shape[0], math.prod(shape[1:])])
    padded = ir.node("Pad", [value, *move.inputs[1:]], dict(move.attributes))
    height_and_width = (shape_of(move.outputs[0]) or ())[2:]
    return insert(graph, padded, node, name=f"{name}/padded", like=value, shape=[*shape[:2], *height_and_width])


def _weights(graph: ir.Graph, node: ir.Node, channels: range, name: str) -> ir.Value:
    """The layer's weights for some of its input channels."""
    array = None if node.inputs[1] is None else constant_of(node.inputs[1])
    assert array is not None
    outputs_first = node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1
    span = slice(channels.start, channels.stop)
    return new_constant(graph, array[:, span] if outputs_first else array[span], f"{name}/weight")


def _channels(value: ir.Value) -> int:
    return (shape_of(value) or (0, 0))[1]
