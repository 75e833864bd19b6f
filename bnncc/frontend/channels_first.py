"""Bring a graph that keeps its maps channels last, as Keras and tf2onnx write it, to ONNX's own order.

ONNX convolves in NCHW, so such a graph has a Transpose on each side of every convolution, or one behind its input:

    Before:  x [N, H, W, C] ─ Transpose ─ Conv ─ Transpose ─ Add(b [C]) ─ Transpose ─ Conv ─ …
    After:   x [N, C, H, W] ─ Conv ─ Add(b [C, 1, 1]) ─ Conv ─ …

Transposes move down through whatever works element by element or along an axis, until a pair meets and cancels.  The
.tflite file is channels last throughout, so an input that loses its Transpose is in the file as it was in the graph.
In front of a Linear the order of the features moves into its weights:

    Before:  x ─ Transpose(NCHW → NHWC) ─ Reshape [N, H·W·C] ─ MatMul(W)
    After:   x ─ Reshape [N, C·H·W] ─ MatMul(W, its rows in the order C, H, W)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from bnncc.ir.graph import (
    bypass,
    constant_of,
    inherit_source,
    new_constant,
    shape_of,
    sole_consumer,
    take_over,
    unique_name,
)

TO_CHANNELS_FIRST = (0, 3, 1, 2)
TO_CHANNELS_LAST = (0, 2, 3, 1)
_RANK = 4

# One tensor operand, the first; what else they read are scalars.
_UNARY = {
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
}  # fmt: skip
# Operands that broadcast.
_BROADCAST = {
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod",
    "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
}  # fmt: skip
# An attribute `axis`.
_AXIS = {"ArgMax", "ArgMin", "Concat", "Gather", "Softmax", "LogSoftmax", "Split", "Hardmax"}
# Where it is not given; elsewhere it is the last.
_DEFAULT_AXIS = {"ArgMax": 0, "ArgMin": 0, "Gather": 0, "Split": 0}
# An input of axes.
_REDUCE = {
    "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
}  # fmt: skip


@dataclass
class ChannelsFirst:
    """Which graph inputs and outputs were NHWC and are NCHW now, by name."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def to_channels_first(model: ir.Model) -> tuple[ir.Model, ChannelsFirst]:
    """The graph in NCHW where that leaves fewer elements to transpose, else `model` itself.

    Args:
        model: every value has a static shape; `Constant` nodes are initializers.
    """
    before = _transposed_elements(model.graph)
    if not before:
        return model, ChannelsFirst()
    changed = model.clone()
    moved = _turn_inputs(changed.graph)
    _show_transposes(changed.graph)
    while _sink(changed.graph):
        RemoveUnusedNodesPass()(changed)
    for node in list(changed.graph):
        _join_reshape(changed.graph, node)
    RemoveUnusedNodesPass()(changed)
    moved.outputs = _turn_outputs(changed.graph)
    RemoveUnusedNodesPass()(changed)
    return (changed, moved) if _transposed_elements(changed.graph) < before else (model, ChannelsFirst())


def _transposed_elements(graph: ir.Graph) -> int:
    return sum(math.prod(shape_of(node.outputs[0]) or ()) for node in graph if _order(node) is not None)


def _order(node: ir.Node | None) -> tuple[int, ...] | None:
    """The permutation of a Transpose of a computed map that changes something."""
    if node is None or node.op_type != "Transpose" or node.domain or constant_of(node.inputs[0]) is not None:
        return None
    order = tuple(node.attributes["perm"].as_ints()) if "perm" in node.attributes else ()
    return order if len(order) == _RANK and list(order) != sorted(order) else None


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.argsort(order))


def _turn_inputs(graph: ir.Graph) -> ChannelsFirst:
    """Let each input that a Transpose makes NCHW be NCHW, and transpose it for those that read NHWC."""
    turned = ChannelsFirst()
    for value in graph.inputs:
        shape = shape_of(value)
        if shape is None or len(shape) != _RANK or not _becomes_channels_first(value):
            continue
        uses = list(value.uses())
        value.shape = ir.Shape([shape[axis] for axis in TO_CHANNELS_FIRST])
        transpose = _transpose(graph, value, TO_CHANNELS_LAST, f"{value.name}/nhwc")
        first = next(iter(graph))
        graph.insert_before(first, transpose)
        for use in uses:
            use.node.replace_input_with(use.idx, transpose.outputs[0])
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = transpose.outputs[0]
        turned.inputs.append(value.name or "")
    return turned


def _becomes_channels_first(value: ir.Value) -> bool:
    """Whether a Transpose to NCHW stands behind `value`, with at most element by element work between."""
    pending, seen = [value], set()
    while pending:
        current = pending.pop()
        for use in current.uses():
            if _order(use.node) == TO_CHANNELS_FIRST:
                return True
            if use.node not in seen and use.node.op_type in _UNARY | _BROADCAST | {"Pad"}:
                seen.add(use.node)
                pending += use.node.outputs
    return False


def _show_transposes(graph: ir.Graph) -> None:
    """A Reshape between [N, 1, 1, C] and [N, C, 1, 1] is a Transpose; one of another shape to [N, 1, 1, C] ends in one.

    What of it does not cancel is a Reshape again in the end.
    """
    for node in [node for node in graph if node.op_type in ("Reshape", "Unsqueeze") and not node.domain]:
        source, shape = node.inputs[0], shape_of(node.outputs[0])
        before = None if source is None else shape_of(source)
        if source is None or shape is None or before is None or constant_of(source) is not None:
            continue
        if not _is_row(shape) or math.prod(shape) == shape[0]:
            continue
        first = (shape[0], max(shape[1:]), 1, 1)
        turns = before in (first, _channels_last(first))
        if before == shape or (shape == first and not turns):
            continue
        made = []
        if not turns:
            made = [ir.node("Reshape", [source, _integers(graph, node, first)], name=f"{node.name}/nchw")]
            source = made[0].outputs[0]
            source.name, source.shape = unique_name(graph, f"{node.outputs[0].name}/nchw"), ir.Shape(first)
            source.type = node.outputs[0].type
        order = TO_CHANNELS_FIRST if shape == first else TO_CHANNELS_LAST
        made.append(_transpose(graph, source, order, f"{node.outputs[0].name}/transposed"))
        _put_in_place(graph, node, made, made[-1].outputs)


def _is_row(shape: tuple[int, ...]) -> bool:
    """[N, C, 1, 1] or [N, 1, 1, C]."""
    return len(shape) == _RANK and shape in ((*shape[:2], 1, 1), (shape[0], 1, 1, shape[3]))


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in TO_CHANNELS_LAST)


def _turn_outputs(graph: ir.Graph) -> list[str]:
    """Let each output that a last Transpose makes NHWC be NCHW."""
    turned = []
    for value in list(graph.outputs):
        node = value.producer()
        if node is None or _order(node) != TO_CHANNELS_LAST:
            continue
        source, name = node.inputs[0], value.name
        assert source is not None
        if value.uses() or source.producer() is None or not bypass(graph, value, source):
            continue
        turned.append(name or "")
    return turned


def _sink(graph: ir.Graph) -> bool:
    """Move each Transpose one node down where that can be; whether any moved."""
    changed = False
    for node in list(graph):
        if node.graph is not graph or node.domain:
            continue
        orders = {_order(value.producer()) for value in node.inputs if value is not None}
        for order in orders - {None}:
            assert order is not None
            moves = (_cancel, _skip_reshaped, _sink_through, _shuffle, _into_linear)
            if any(move(graph, node, order) for move in moves):
                changed = True
                break
    return changed


def _cancel(graph: ir.Graph, node: ir.Node, order: tuple[int, ...]) -> bool:
    """Two Transposes become one, or none."""
    second = _order(node)
    if second is None:
        return False
    source = _source(node.inputs[0])
    combined = tuple(order[axis] for axis in second)
    if list(combined) == sorted(combined):
        if node.outputs[0] in graph.outputs and (source.producer() is None or source in graph.outputs):
            return False
        return bypass(graph, node.outputs[0], source)
    merged = _transpose(graph, source, combined, f"{node.outputs[0].name}/merged")
    _put_in_place(graph, node, [merged], [merged.outputs[0]])
    return True


def _skip_reshaped(graph: ir.Graph, node: ir.Node, order: tuple[int, ...]) -> bool:
    """A Transpose that only moves axes of one element, in front of what changes the shape: it can be left out."""
    if node.op_type not in ("Reshape", "Flatten") or _order(_producer(node.inputs[0])) != order:
        return False
    source = _source(node.inputs[0])
    if not _keeps_elements(source, order):
        return False
    target = shape_of(node.outputs[0])
    if target is None:
        return False
    reshaped = ir.node("Reshape", [source, _integers(graph, node, target)], name=f"{node.name}/nchw")
    _put_in_place(graph, node, [reshaped], reshaped.outputs)
    return True


def _join_reshape(graph: ir.Graph, node: ir.Node) -> bool:
    """x ─ Reshape [N, 1, 1, C] ─ Transpose ─ y  becomes  x ─ Reshape [N, C, 1, 1] ─ y."""
    order, reshape = _order(node), _producer(node.inputs[0])
    if order is None or reshape is None or reshape.op_type not in ("Reshape", "Unsqueeze") or reshape.domain:
        return False
    source, shape = reshape.inputs[0], shape_of(node.outputs[0])
    if source is None or shape is None or not _keeps_elements(reshape.outputs[0], order):
        return False
    joined = ir.node("Reshape", [source, _integers(graph, node, shape)], name=f"{node.name}/nchw")
    _put_in_place(graph, node, [joined], joined.outputs)
    return True


def _shuffle(graph: ir.Graph, node: ir.Node, order: tuple[int, ...]) -> bool:
    """Channels in another order, as Keras shuffles them: apart, their axes transposed, and together again.

    Before:  x ─ Transpose(NCHW → NHWC) ─ Reshape [N, H, W, 2, C/2] ─ Transpose(0 1 2 4 3) ─ Reshape [N, H, W, C]
    After:   x ─ Reshape [N, 2, C/2, H, W] ─ Transpose(0 2 1 3 4) ─ Reshape [N, C, H, W] ─ Transpose(NCHW → NHWC)
    """
    if node.op_type != "Reshape" or order != TO_CHANNELS_LAST or _order(_producer(node.inputs[0])) != order:
        return False
    source = _source(node.inputs[0])
    before, split = shape_of(source), shape_of(node.outputs[0])
    permuted = sole_consumer(graph, node.outputs[0])
    if permuted is None or permuted.op_type != "Transpose":
        return False
    back = sole_consumer(graph, permuted.outputs[0])
    if back is None or back.op_type != "Reshape" or before is None or split is None:
        return False
    N, C, H, W = before
    perm = tuple(permuted.attributes["perm"].as_ints()) if "perm" in permuted.attributes else ()
    if split[:3] != (N, H, W) or perm[:3] != (0, 1, 2) or shape_of(back.outputs[0]) != (N, H, W, C):
        return False
    apart = (N, *split[3:], H, W)
    moved = (0, *(axis - 2 for axis in perm[3:]), len(apart) - 2, len(apart) - 1)
    made = [
        ir.node("Reshape", [source, _integers(graph, back, apart)]),
        ir.node("Transpose", [None], attributes={"perm": list(moved)}),
        ir.node("Reshape", [None, _integers(graph, back, before)]),
    ]
    for index, shape in enumerate((apart, tuple(apart[axis] for axis in moved), before)):
        step = made[index]
        if index:
            step.replace_input_with(0, made[index - 1].outputs[0])
        step.name = f"{back.name}/nchw/{index}"
        step.outputs[0].name = unique_name(graph, f"{back.outputs[0].name}/nchw/{index}")
        step.outputs[0].shape, step.outputs[0].type = ir.Shape(shape), back.outputs[0].type
    made.append(_transpose(graph, made[-1].outputs[0], order, f"{back.outputs[0].name}/transposed"))
    _put_in_place(graph, back, made, made[-1].outputs)
    graph.remove([permuted, node], safe=True)
    return True


def _keeps_elements(source: ir.Value, order: Sequence[int]) -> bool:
    """Whether a Transpose of `source` leaves all elements in their order in memory."""
    shape = shape_of(source)
    return shape is not None and _stays_in_order(shape, order)


def _stays_in_order(shape: Sequence[int], order: Sequence[int]) -> bool:
    moved = [axis for axis in order if shape[axis] > 1]
    return moved == sorted(moved)


def _sink_through(graph: ir.Graph, node: ir.Node, order: tuple[int, ...]) -> bool:
    """x ─ Transpose ─ node ─ y  becomes  x ─ node' ─ Transpose ─ y."""
    inputs = _operands(graph, node, order)
    if inputs is None:
        return False
    attributes = dict(node.attributes)
    if node.op_type in _AXIS:
        attributes["axis"] = ir.AttrInt64("axis", order[_axis(node)])
    shapes = [shape_of(value) for value in node.outputs]
    keeps = attributes["keepdims"].as_int() if "keepdims" in attributes else 1
    drops_axes = node.op_type == "Squeeze" or (node.op_type in _REDUCE | {"ArgMax", "ArgMin"} and not keeps)
    if any(shape is None or (len(shape) != _RANK and not drops_axes) for shape in shapes):
        return False
    if drops_axes and not _keeps_order(node, order):
        return False
    moved = ir.Node(
        node.domain,
        node.op_type,
        inputs,
        list(attributes.values()),
        num_outputs=len(node.outputs),
        name=f"{node.name}/nchw",
    )
    made, results = [moved], []
    for old, new, shape in zip(node.outputs, moved.outputs, shapes, strict=True):
        assert shape is not None
        new.name, new.type = unique_name(graph, f"{old.name}/nchw"), old.type
        if drops_axes:
            new.shape = ir.Shape(shape)
            results.append(new)
            continue
        new.shape = ir.Shape([shape[axis] for axis in _inverse(order)])
        made.append(_transpose(graph, new, order, f"{old.name}/transposed"))
        results.append(made[-1].outputs[0])
    _put_in_place(graph, node, made, results)
    return True


def _operands(graph: ir.Graph, node: ir.Node, order: tuple[int, ...]) -> list[ir.Value | None] | None:
    """The inputs of `node` as they are in front of the Transpose; None where it does not move through."""
    inverse = _inverse(order)
    inputs = list(node.inputs)
    if not inputs:
        return None
    if node.op_type == "Gather" and len(shape_of(inputs[1]) or () if inputs[1] is not None else ()) != 1:
        return None
    if node.op_type in _UNARY or node.op_type in _AXIS - {"Concat"}:
        return [_source(inputs[0]), *inputs[1:]] if _order(_producer(inputs[0])) == order else None
    if node.op_type in _BROADCAST or node.op_type == "Concat":
        return _broadcast_operands(graph, node, order)
    if _order(_producer(inputs[0])) != order:
        return None
    if (node.op_type in _REDUCE or node.op_type == "Squeeze") and len(inputs) > 1:
        axes = constant_of(inputs[1])
        if axes is None:
            return None
        return [_source(inputs[0]), _integers(graph, node, [order[int(axis) % _RANK] for axis in axes.reshape(-1)])]
    if node.op_type == "Slice" and len(inputs) > 3:
        axes = constant_of(inputs[3])
        if axes is None:
            return None
        moved = _integers(graph, node, [order[int(axis) % _RANK] for axis in axes.reshape(-1)])
        return [_source(inputs[0]), *inputs[1:3], moved, *inputs[4:]]
    if node.op_type == "Pad" and len(inputs) < _RANK:
        amounts = constant_of(inputs[1])
        if amounts is None:
            return None
        turned = [int(side[axis]) for side in amounts.reshape(2, _RANK) for axis in inverse]
        return [_source(inputs[0]), _integers(graph, node, turned), *inputs[2:]]
    return None


def _broadcast_operands(graph: ir.Graph, node: ir.Node, order: tuple[int, ...]) -> list[ir.Value | None] | None:
    found: list[ir.Value | None] = []
    for value in node.inputs:
        if value is None:
            return None
        array = constant_of(value)
        if array is not None:
            if array.size == 1 and node.op_type != "Concat":
                found.append(value)
                continue
            if array.ndim > _RANK:
                return None
            turned = array.reshape((1,) * (_RANK - array.ndim) + array.shape).transpose(_inverse(order))
            found.append(new_constant(graph, np.ascontiguousarray(turned), f"{value.name}/nchw"))
        elif _order(value.producer()) == order:
            found.append(_source(value))
        elif (shape := shape_of(value)) is not None and math.prod(shape) == 1:
            found.append(value)
        elif node.op_type != "Concat" and shape is not None and _turns_in_place(shape, order):
            found.append(_turned_row(graph, node, value, shape, order))
        else:
            return None
    return found


def _turns_in_place(shape: tuple[int, ...], order: tuple[int, ...]) -> bool:
    """Whether what broadcasts, in front of a Transpose, holds its elements in the order in which it holds them behind:
    the gates of the channels, [N, 1, 1, C]."""
    if len(shape) > _RANK:
        return False
    return _stays_in_order(_padded(shape), _inverse(order))


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """As it broadcasts against a map."""
    return (1,) * (_RANK - len(shape)) + shape


def _turned_row(
    graph: ir.Graph, before: ir.Node, value: ir.Value, shape: tuple[int, ...], order: tuple[int, ...]
) -> ir.Value:
    """Such a value, in the shape that it has in front of the Transpose."""
    turned = [_padded(shape)[axis] for axis in _inverse(order)]
    node = ir.node(
        "Reshape", [value, _integers(graph, before, turned)], name=unique_name(graph, f"{value.name}/turned")
    )
    result = node.outputs[0]
    result.name, result.type = unique_name(graph, f"{value.name}/nchw"), value.type
    result.shape = ir.Shape(turned)
    inherit_source([node], before)
    graph.insert_before(before, node)
    return result


def _keeps_order(node: ir.Node, order: tuple[int, ...]) -> bool:
    """Whether the axes that a reduction leaves are in the same order on both sides of the Transpose."""
    gone = {_axis(node)}
    if node.op_type not in _AXIS:
        axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None:
            return False
        gone = {int(axis) % _RANK for axis in axes.reshape(-1)}
    left = [order[axis] for axis in range(_RANK) if axis not in gone]
    return left == sorted(left)


def _into_linear(graph: ir.Graph, node: ir.Node, order: tuple[int, ...]) -> bool:
    """A map that becomes a row of features, [N, F] or [N, F, 1, 1]: their order moves into what reads them."""
    if node.op_type not in ("Reshape", "Flatten") or _order(_producer(node.inputs[0])) != TO_CHANNELS_LAST:
        return False
    result = node.outputs[0]
    shape, source = shape_of(result), _source(node.inputs[0])
    N, C, H, W = shape_of(source) or (0, 0, 0, 0)
    if shape not in ((N, C * H * W), (N, C * H * W, 1, 1)) or result.is_graph_output():
        return False
    readers = _feature_readers(result)
    if readers is None:
        return False
    indices = np.arange(C * H * W).reshape(H, W, C).transpose(2, 0, 1).reshape(-1)
    for reader, index, axis in readers:
        value = reader.inputs[index]
        assert value is not None
        gathered = ir.node(
            "Gather",
            [value, new_constant(graph, indices, f"{value.name}/features")],
            attributes={"axis": axis},
            name=f"{reader.name}/features",
        )
        gathered.outputs[0].name = unique_name(graph, f"{value.name}/nchw")
        gathered.outputs[0].shape, gathered.outputs[0].type = value.shape, value.type
        inherit_source([gathered], reader)
        graph.insert_before(reader, gathered)
        reader.replace_input_with(index, gathered.outputs[0])
    node.replace_input_with(0, source)
    return True


def _feature_readers(value: ir.Value) -> list[tuple[ir.Node, int, int]] | None:
    """(node, input, axis) of all constants with an axis of features in the order of `value`; None where a reader is not
    known."""
    found = []
    for use in value.uses():
        node = use.node
        if node.domain:
            return None
        if use.idx == 0 and (axis := _features_of_filters(node)) is not None:
            found.append((node, 1, axis))
            continue
        if use.idx == 0 and node.op_type == "BatchNormalization":
            found += [(node, index, 0) for index in range(1, len(node.inputs))]
        elif node.op_type in _UNARY or node.op_type in _BROADCAST:
            constants = _features_of_operands(node, value)
            if constants is None:
                return None
            found += constants
        else:
            return None
        below = None if node.outputs[0].is_graph_output() else _feature_readers(node.outputs[0])
        if below is None:
            return None
        found += below
    return found


def _features_of_operands(node: ir.Node, value: ir.Value) -> list[tuple[ir.Node, int, int]] | None:
    """Of what else an elementwise operator reads; None where it is no constant with such an axis."""
    shape = shape_of(value)
    assert shape is not None
    behind = len(shape) - 2
    found = []
    for index, other in enumerate(node.inputs):
        if other is value:
            continue
        array = constant_of(other)
        if array is None:
            return None
        if array.size == 1:
            continue
        axis = array.ndim - 1 - behind
        if axis < 0 or array.size != array.shape[axis] or array.size != shape[1]:
            return None
        found.append((node, index, axis))
    return found


def _features_of_filters(node: ir.Node) -> int | None:
    """The axis of the input features of a Linear's or a 1x1 convolution's weights; None for anything else."""
    shape = shape_of(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if node.op_type == "Conv":
        ungrouped = "group" not in node.attributes or node.attributes["group"].as_int() == 1
        padded = "pads" in node.attributes and any(node.attributes["pads"].as_ints())
        return 1 if shape is not None and shape[2:] == (1, 1) and ungrouped and not padded else None
    if not _is_linear(node):
        return None
    return 1 if "transB" in node.attributes and node.attributes["transB"].as_int() else 0


def _is_linear(node: ir.Node) -> bool:
    """A product of a row of features with a matrix."""
    if len(node.inputs) < 2 or len(shape_of(node.inputs[1]) or () if node.inputs[1] is not None else ()) != 2:
        return False
    transposes = "transA" in node.attributes and bool(node.attributes["transA"].as_int())
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not transposes)


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _source(value: ir.Value | None) -> ir.Value:
    """What a Transpose reads."""
    node = _producer(value)
    assert node is not None
    source = node.inputs[0]
    assert source is not None
    return source


def _transpose(graph: ir.Graph, source: ir.Value, order: Sequence[int], name: str) -> ir.Node:
    made = ir.node("Transpose", [source], attributes={"perm": list(order)}, name=name)
    shape = shape_of(source)
    assert shape is not None
    made.outputs[0].name = unique_name(graph, name)
    made.outputs[0].shape, made.outputs[0].type = ir.Shape([shape[axis] for axis in order]), source.type
    return made


def _integers(graph: ir.Graph, node: ir.Node, numbers: Sequence[int]) -> ir.Value:
    return new_constant(graph, np.asarray(numbers, dtype=np.int64), f"{node.name}/nchw")


def _axis(node: ir.Node) -> int:
    """The attribute `axis`, counted from the first."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else _DEFAULT_AXIS.get(node.op_type, -1)
    return axis % _RANK


def _put_in_place(graph: ir.Graph, node: ir.Node, made: Sequence[ir.Node], results: Sequence[ir.Value]) -> None:
    """Insert `made` for `node`; each result takes over an output."""
    inherit_source(made, node)
    graph.insert_before(node, list(made))
    for old, new in zip(node.outputs, results, strict=True):
        take_over(old, new)
    graph.remove(node, safe=True)
