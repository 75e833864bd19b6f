"""Thermometer codes, bits that compare a value with several thresholds, become one Sign of repeated channels.

    Before:  x [N, C, H, W] ─ Unsqueeze(2) ─ Greater(t [1, 1, n, 1, 1]) ─ Cast ─ Mul(2) ─ Sub(1) ─ Reshape ─ y
    After:   x ─ Gather(0 … 0, 1 … 1, …) [N, C·n, H, W] ─ Add(-t') ─ bnncc.Sign ─ y

Every element of y is then a step of one element of x (`pointwise`), and which one, and of which threshold, is told by
the channel alone: y[n, k, h, w] = f_k(x[n, c_k, h, w]), however the axes of x lie and are joined.  `binarizer` says
what becomes of the steps f_k.  In front of a matrix [N, K] the axes of x are joined as well.

A few channels are repeated by a 1x1 convolution with a 1 and zeros in each filter, exact as it multiplies by nothing
else; the shift becomes its bias.  Many are repeated by a Gather.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.bit_moves import WORD
from bnncc.ir.graph import inherit_source, new_constant, shape_of
from bnncc.passes.binarizer import Binarizer, binarizer_of
from bnncc.passes.byte_steps import is_byte, steps_of_byte
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import MOST_NODES, Candidate
from bnncc.passes.insertion import insert, insert_reshape
from bnncc.passes.piecewise import rows_of
from bnncc.passes.pointwise import (
    MOVING,
    Numbers,
    Pointwise,
    Source,
    computed_operands,
    evaluate,
    is_pointwise,
    sources_of,
)
from bnncc.passes.recognize_steps import replace_by_sign
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.shrink_constants import shrunk
from bnncc.passes.split_joined_levels import MOST_RUNS, flattens, is_split_behind
from bnncc.passes.steps import steps_of

# So many channels are multiplied by 1 and 0 faster than gathered one by one.
FEW_CHANNELS = 8


@dataclass(frozen=True)
class Selection:
    """y[n, k, …] = x'[n, channels[k], …], x' being x with its axes in the order `permutation`, reshaped to `shape`."""

    permutation: tuple[int, ...]
    shape: tuple[int, ...]
    channels: Numbers


class RecognizeThermometer(ir.passes.InPlacePass):
    """Rewrite every such value of 2 to 4 axes; the last value of an expression comes first."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        known: dict[ir.Node, _Step] = {}

        def rewrite(graph: ir.Graph, node: ir.Node) -> bool:
            changed = _recognize(model, node, known)
            if changed:
                known.clear()
            return changed

        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, rewrite, backwards=True))


def _recognize(model: ir.Model, node: ir.Node, known: dict[ir.Node, _Step]) -> bool:
    graph, value = model.graph, node.outputs[0]
    shape = shape_of(value)
    if shape is None or not 2 <= len(shape) <= 4 or value.dtype != ir.DataType.FLOAT or not _repeats(node, known):
        return False
    sources = list(sources_of(value))
    of_bytes = [source for source in sources if is_byte(source.value)]
    byte_steps = steps_of_byte(model, of_bytes[0].value, value) if of_bytes else None
    for source in sources if byte_steps is None else of_bytes[:1]:
        if int(np.prod(shape)) <= int(np.prod(shape_of(source.value) or ())):
            continue
        if _is_replication(value, source):
            return False
        found = evaluate(value, source)
        which = None if found is None else shrunk(found.which)
        if found is None or which is None or any(size != 1 for axis, size in enumerate(which.shape) if axis != 1):
            continue
        selection = _selection(found, shape, shape_of(source.value) or ())
        function = rows_of(found.functions, np.broadcast_to(which.reshape(-1), (shape[1],)))
        steps = byte_steps or (steps_of(function) if function.center is None else None)
        if selection is None or steps is None or len(np.unique(steps.threshold)) == 1:
            continue
        repeated = _repeated(graph, node, source.value, selection)
        binarizer = binarizer_of(graph, Candidate(repeated, function, ()), steps, value)
        if binarizer is None or _becomes_layers(node, binarizer):
            remove_unread(graph, [repeated.producer()])
            continue
        replace_by_sign(graph, node, binarizer)
        remove_unread(graph, source.nodes)
        return True
    return False


def _becomes_layers(node: ir.Node, binarizer: Binarizer) -> bool:
    """True for joined bits of a few scales that layers of ±1 read: `split_joined_levels` gives each scale a layer.

    As one map they would have a scale for each channel, which a sum of bits cannot weigh.
    """
    levels = np.stack([np.abs(binarizer.scale), binarizer.offset])
    runs = 1 + np.count_nonzero(np.any(levels[:, 1:] != levels[:, :-1], axis=0))
    joined = node.inputs[0].producer() if flattens(node) and node.inputs[0] is not None else node
    if joined is None or joined.op_type != "Concat" or len(np.unique(levels[0])) == 1 or runs > MOST_RUNS:
        return False
    return is_split_behind(node.outputs[0])


@dataclass(frozen=True)
class _Step:
    """What one operator says of its operands: whether they are repeated, None where those behind it tell."""

    repeats: bool | None
    behind: tuple[ir.Node, ...]


def _repeats(node: ir.Node, known: dict[ir.Node, _Step]) -> bool:
    """True where an operand broadcasts or is joined in front of `node`, and not in words that bits can be joined in.

    known: what is known of the operators of the graph as it is.
    """
    pending, seen = [node], {node}
    while pending and len(seen) <= MOST_NODES:
        one = pending.pop()
        if one not in known:
            known[one] = _step(one)
        repeats = known[one].repeats
        if repeats is not None:
            return repeats
        for producer in known[one].behind:
            if producer not in seen:
                seen.add(producer)
                pending.append(producer)
    return False


def _step(node: ir.Node) -> _Step:
    if not is_pointwise(node):
        return _Step(None, ())
    operands, result = computed_operands(node), shape_of(node.outputs[0])
    shapes = [shape_of(value) for value in operands]
    if node.op_type == "Concat":
        of_words = all(size is not None and len(size) > 1 and size[1] % WORD == 0 for size in shapes)
        along_channels = result is not None and node.attributes.get_int("axis", 0) % len(result) == 1
        return _Step(not (of_words and along_channels), ())
    if node.op_type in ("Expand", "Tile", "Gather") or (node.op_type not in MOVING and result not in shapes):
        return _Step(True, ())
    producers = (value.producer() for value in operands)
    return _Step(None, tuple(producer for producer in producers if producer is not None))


def _is_replication(value: ir.Value, source: Source) -> bool:
    """True where one computed value is repeated, and its copies are compared: `merge_replication` lets the layer in
    front compute such copies.
    """
    if source.value.producer() is None:
        return False
    while (node := value.producer()) is not None and node in source.nodes and node.op_type not in MOVING:
        same = [operand for operand in computed_operands(node) if shape_of(operand) == shape_of(value)]
        if not same:
            return False
        value = same[0]
    copied, pending = set[ir.Value](), [value]
    while pending:
        one = pending.pop()
        node = one.producer()
        if node is not None and node in source.nodes and node.op_type in MOVING:
            pending.extend(computed_operands(node))
        else:
            copied.add(one)
    return len(copied) == 1 and all(np.prod(shape_of(one) or ()) < np.prod(shape_of(value) or ()) for one in copied)


def _selection(found: Pointwise, shape: tuple[int, ...], before: tuple[int, ...]) -> Selection | None:
    """Which elements of x, of the shape `before`, the value reads; None where that is no choice of channels."""
    index, before = np.broadcast_to(found.index, shape), before or (1,)
    if len(shape) == 2 and before[0] == shape[0]:
        features = int(np.prod(before[1:]))
        channels = index[0] % max(features, 1)
        rows = np.arange(shape[0])[:, None] * features
        if not np.array_equal(index, rows + channels):
            return None
        return Selection(tuple(range(len(before))), (shape[0], features), channels)
    axes: dict[int, int] = {}
    channels = np.zeros(shape[1], np.int64)
    for axis, coordinate in enumerate(np.unravel_index(index, before)):
        if before[axis] == 1:
            continue
        along = _varies_along(coordinate)
        if along is None or along in axes:
            return None
        line = coordinate[tuple(slice(None) if one == along else 0 for one in range(len(shape)))]
        if along == 1:
            channels = line
        elif not np.array_equal(line, np.arange(before[axis])) or before[axis] != shape[along]:
            return None
        axes[along] = axis
    sizes = tuple(before[axes[axis]] if axis in axes else 1 for axis in range(len(shape)))
    if any(size != whole for axis, (size, whole) in enumerate(zip(sizes, shape, strict=True)) if axis != 1):
        return None
    ones = [axis for axis in range(len(before)) if axis not in axes.values()]
    return Selection((*ones, *(axes[axis] for axis in sorted(axes))), sizes, channels)


def _varies_along(coordinate: npt.NDArray[np.int64]) -> int | None:
    """The one axis along which an array varies."""
    small = shrunk(coordinate).shape
    varying = [axis for axis, size in enumerate(small) if size != 1]
    return varying[0] if len(varying) == 1 else None


def _repeated(graph: ir.Graph, node: ir.Node, x: ir.Value, selection: Selection) -> ir.Value:
    """x with its channels repeated, in front of `node`."""
    name, shape = f"{node.outputs[0].name}/repeated", shape_of(x) or (1,)
    moved = [axis for axis in selection.permutation if shape[axis] != 1]
    if moved != sorted(moved):
        order = [shape[axis] for axis in selection.permutation]
        transpose = ir.node("Transpose", [x], {"perm": selection.permutation})
        x = insert(graph, transpose, node, name=f"{name}/transposed", like=x, shape=order)
    if shape_of(x) != selection.shape:
        x = insert_reshape(graph, x, selection.shape, f"{name}/reshaped", node)
    size = (selection.shape[0], len(selection.channels), *selection.shape[2:])
    count = selection.shape[1]
    if len(size) == 4 and count <= FEW_CHANNELS:
        filters = np.eye(count, dtype=np.float32)[selection.channels].reshape(-1, count, 1, 1)
        inputs = [x, new_constant(graph, filters, f"{name}/filters")]
        choose = ir.node("Conv", inputs, {"kernel_shape": [1, 1]})
    else:
        choose = ir.node("Gather", [x, new_constant(graph, selection.channels, f"{name}/channels")], {"axis": 1})
    inherit_source([choose], node)
    return insert(graph, choose, node, name=name, like=x, shape=size)
