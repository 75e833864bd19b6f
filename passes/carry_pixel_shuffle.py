"""Let convolutions yield their channels in the order that DEPTH_TO_SPACE takes them in.

    Before:  x ─ BinaryConv(s [b²·C, …]; m, β) ─ pixel_shuffle ─ BatchNormalization [C] ─ y
    After:   x ─ BinaryConv(s[order]; m[order], β[order]) ─ Mul ─ Add ─ DepthToSpace(DCR) ─ y      folded next

    Before:  x ─ Conv ─ PRelu(a [b²·C]) ───────────── Add ─ pixel_shuffle ─ y
             z ─ Gather(0, 0, …, 1, 1, …) ─────────────┘
    After:   x ─ Conv, filters in order ─ PRelu(a[order]) ─ Add ─ DepthToSpace(DCR) ─ y
             z ─ Concat(z, z, …) ──────────────────────────┘

pixel_shuffle, exported as [N, C·b², h, w] → [N, C, b, b, h, w] → [N, C, h, b, w, b] → [N, C, h·b, w·b], takes channel c
of pixel (r, q) of a block from channel c·b² + r·b + q.  DEPTH_TO_SPACE takes it from (r·b + q)·C + c, so that whole
pixels are copied, where six axes had to be transposed.  The filters are put in that order once and for all, binary or
float, and whatever stands between them and the shuffle: operators of each element, sums, channels that are repeated.

What works on each channel alone behind the shuffle (and behind slices of the map) then goes in front of it, its
constants repeated b² times, where `fold-affine` makes it part of the convolution.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import (
    OUTPUT_CHANNELS_KEY,
    constant_of,
    new_constant,
    replace_node,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.passes.affine import Affine, affine_of
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert
from bnncc.passes.kept_order import must_stay
from bnncc.passes.pixel_shuffle import find_shuffle
from bnncc.passes.traced import choose_channels

SPATIAL_AXES = {2, 3}
# Operators of each element whose parameters are none of a channel; sums of two maps.
UNARY = {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu", "Gelu", "Softplus"}
SUMS = {"Add", "Sub"}

Order = npt.NDArray[np.int64]


class CarryPixelShuffle(ir.passes.InPlacePass):
    """Rewrite every pixel_shuffle that is all that reads a convolution of one group, or what is made of some."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, last: ir.Node) -> bool:
    found = find_shuffle(graph, last)
    if found is None:
        return False
    x, block = found.x, found.block
    nodes = _in_any_order(graph, x)
    if nodes is None:
        return False
    channels = (shape_of(x) or (0, 0))[1]
    order = np.arange(channels).reshape(-1, block**2).T.reshape(-1)
    is_conv = _is_conv(nodes[-1])
    for node in nodes:
        _reorder(graph, node, order)
    first = found.between[-1] if found.between else last
    shuffle = ir.node("DepthToSpace", [first.inputs[0]], {"blocksize": block, "mode": "DCR"})
    replace_node(graph, last, shuffle)
    graph.remove(found.between, safe=True)
    if is_conv:
        _carry_affines(graph, shuffle, block)
    return True


def _in_any_order(graph: ir.Graph, value: ir.Value) -> list[ir.Node] | None:
    """The nodes, in their order, whose constants say in which order the channels of `value` are; None where something
    else does, or reads some of it.
    """
    node = value.producer()
    if node is None or sole_consumer(graph, value) is None or len(node.outputs) != 1:
        return None
    if _is_conv(node) or _is_choice_of_channels(node):
        return [node]
    step = affine_of(node)
    if step is not None:
        operands: list[ir.Value | None] = [step[0]]
    elif node.domain == "" and (node.op_type in UNARY or _is_prelu(node)):
        operands = [node.inputs[0]]
    elif node.domain == "" and node.op_type in SUMS:
        operands = list(node.inputs)
    else:
        return None
    found: list[ir.Node] = []
    for operand in operands:
        inner = None if operand is None or shape_of(operand) != shape_of(value) else _in_any_order(graph, operand)
        if inner is None:
            return None
        found += inner
    return [*found, node]


def _is_conv(node: ir.Node) -> bool:
    """True for a convolution of one group, binary or float, all of whose constants are known."""
    if not ops.is_binary_conv(node) and (node.domain != "" or node.op_type != "Conv"):
        return False
    constant = all(value is None or constant_of(value) is not None for value in node.inputs[1:])
    return constant and node.attributes.get_int("group", 1) == 1 and len(shape_of(node.outputs[0]) or ()) == 4


def _is_choice_of_channels(node: ir.Node) -> bool:
    """True for a Gather of channels, by which one is repeated b² times."""
    if node.domain != "" or node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 1:
        return False
    indices = constant_of(node.inputs[1])
    return indices is not None and indices.ndim == 1 and len(shape_of(node.outputs[0]) or ()) == 4


def _is_prelu(node: ir.Node) -> bool:
    return node.op_type == "PRelu" and constant_of(node.inputs[1]) is not None


def _reorder(graph: ir.Graph, node: ir.Node, order: Order) -> None:
    """Let channel i of what `node` yields be what channel `order[i]` was, given operands in that order."""
    y = node.outputs[0]
    if _is_choice_of_channels(node):
        x, indices = node.inputs[0], constant_of(node.inputs[1])
        assert x is not None
        assert indices is not None
        chosen, channels = indices[order], (shape_of(x) or (0, 0))[1]
        y.name = f"{y.name}/reordered"
        if np.array_equal(chosen, np.arange(chosen.size) % channels):
            replace_node(graph, node, ir.node("Concat", [x] * (chosen.size // channels), {"axis": 1}))
        else:
            node.replace_input_with(1, new_constant(graph, chosen, f"{y.name}/channels"))
        return
    is_conv = _is_conv(node)
    for index, value in enumerate(node.inputs):
        array = None if value is None else constant_of(value)
        if array is None or value is None:
            continue
        axis = 0 if is_conv or node.op_type == "BatchNormalization" else array.ndim - 3  # of [C, 1, 1] and [1, C, 1, 1]
        if axis < 0 or array.ndim == 0 or array.shape[axis] != order.size:
            continue
        node.replace_input_with(index, new_constant(graph, np.take(array, order, axis), f"{value.name}/reordered"))
    if ops.is_binary_conv(node):
        choose_channels(node, OUTPUT_CHANNELS_KEY, order, order.size)
    y.name = f"{y.name}/reordered"  # it no longer holds what the traced value holds


def _carry_affines(graph: ir.Graph, shuffle: ir.Node, block: int) -> None:
    """Move the per-channel operators behind `shuffle`, and behind slices of its map, in front of it."""
    x, value = shuffle.inputs[0], shuffle.outputs[0]
    assert x is not None
    name = x.name
    total = Affine.identity((shape_of(value) or (0, 0))[1])
    passed, stale = [value], set[ir.Value]()
    while (node := sole_consumer(graph, value)) is not None:
        step = affine_of(node)
        if step is not None and not must_stay(node.outputs[0], [step[1]]):
            total = total.then(step[1])
            take_over(node.outputs[0], value)
            graph.remove(node, safe=True)
            stale.update(passed[:-1])
        elif _slices_map(node):
            value = node.outputs[0]
            passed.append(value)
        else:
            break
    for earlier in stale:
        earlier.name = f"{earlier.name}/scaled"
    for operator, vector, unit in (("Mul", total.scale, 1.0), ("Add", total.shift, 0.0)):
        if np.any(vector != unit):
            repeated = np.tile(vector, block**2).astype(np.float32).reshape(1, -1, 1, 1)
            node = ir.node(operator, [x, new_constant(graph, repeated, f"{name}/{operator.lower()}_constant")])
            x = insert(graph, node, shuffle, name=f"{name}/{operator.lower()}", like=x)
    shuffle.replace_input_with(0, x)


def _slices_map(node: ir.Node) -> bool:
    axes = constant_of(node.inputs[3]) if node.op_type == "Slice" and len(node.inputs) > 3 else None
    return node.domain == "" and axes is not None and {int(axis) % 4 for axis in axes.reshape(-1)} <= SPATIAL_AXES
