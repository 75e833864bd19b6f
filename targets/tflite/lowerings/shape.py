"""Operators that only move data: reshape, transpose, join, cut, pad, repeat, gather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.ir.bit_moves import ranges_of
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import CHANNELS_LAST, PLAIN, Layout, flattened, ordered, reshaped_order
from bnncc.targets.tflite.lowerings.moves import (
    check_reflects,
    concatenate,
    gather,
    mirror_pad,
    pad,
    split,
    strided_slice,
    take,
)
from bnncc.targets.tflite.lowerings.operands import alias, broadcast, input_of, integers, optional_input, scalar
from bnncc.targets.tflite.writer import Tensor


def lower_identity(node: ir.Node, context: LoweringContext) -> None:
    """y = x: no operator."""
    alias(context, node.outputs[0], input_of(node, 0))


def lower_constant(node: ir.Node, context: LoweringContext) -> None:
    """Nothing to emit: the context reads a Constant's array where it is used."""


def lower_reshape(node: ir.Node, context: LoweringContext) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the elements in ONNX order, in another shape.

    The data stays where it is wherever a layout can say so; else it is first moved into an order in which it can.
    """
    x, output = input_of(node, 0), node.outputs[0]
    shape, target = context.shape(x), context.shape(output)
    if 0 in shape:
        raise UnsupportedError("a tensor without elements")
    home = context.layout(x) or PLAIN
    source, layout = _reshape_layouts(home, shape, target)
    tensor, stored = context.use(x, source), layout.shape(target)
    same = [source for source in (tensor, context.before_reshape(tensor)) if source.shape == stored]
    if same:
        context.bind(output, layout, same[0])
    else:
        context.reshape(tensor, stored, context.define(output, layout))


def _reshape_layouts(home: Layout, shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[Layout, Layout]:
    """In which layout to take the input, stored in `home`, and in which one the output is then stored."""
    if home.flat is not None:
        if target == shape:
            return home, home
        if target == (shape[0], *home.flat):
            return home, CHANNELS_LAST
        home = PLAIN
    if home == CHANNELS_LAST and len(shape) > 2 and target == (shape[0], int(np.prod(shape[1:]))):
        return home, flattened(shape[1], shape[2:])
    order = reshaped_order(home.permutation(len(shape)), shape, target)
    if order is not None:
        return home, ordered(order, target)
    for layout in (CHANNELS_LAST, PLAIN) if len(target) == 4 else (PLAIN,):
        needed = reshaped_order(layout.permutation(len(target)), target, shape)
        if needed is not None:
            return ordered(needed, shape), layout
    raise AssertionError("a reshape in ONNX order is always possible")


def lower_transpose(node: ir.Node, context: LoweringContext) -> None:
    """Axis i of y is axis perm[i] of x: the same data under another layout; whoever uses it moves it as it needs."""
    x, output = input_of(node, 0), node.outputs[0]
    shape = context.shape(x)
    rank = len(shape)
    permutation = node.attributes.get_ints("perm") or tuple(reversed(range(rank)))
    home = context.axes_layout(x)
    layout = ordered([list(permutation).index(axis) for axis in home.permutation(rank)])
    context.bind(output, layout, context.use(x, home))


def lower_concat(node: ir.Node, context: LoweringContext) -> None:
    """The inputs one after the other along `axis`."""
    values = [input_of(node, index) for index in range(len(node.inputs))]
    if len(values) == 1:
        alias(context, node.outputs[0], values[0])
        return
    layout = context.common_layout(values)
    layout = PLAIN if layout.flat is not None else layout
    rank = len(context.shape(node.outputs[0]))
    axis = layout.axis(node.attributes.get_int("axis", 0), rank)
    operands = [context.use(value, layout) for value in values if 0 not in context.shape(value)]
    concatenate(operands, axis, context.define(node.outputs[0], layout), context)


def lower_split(node: ir.Node, context: LoweringContext) -> None:
    """x cut along `axis`."""
    x = input_of(node, 0)
    layout = context.axes_layout(x)
    axis = node.attributes.get_int("axis", 0)
    sizes = [context.shape(output)[axis] for output in node.outputs]
    stored_axis = scalar(context, layout.axis(axis, len(context.shape(x))), np.int32)
    tensor = context.use(x, layout)
    split(tensor, stored_axis, sizes, [context.define(output, layout) for output in node.outputs], context)


def lower_slice(node: ir.Node, context: LoweringContext) -> None:
    """x[start:end:step] on some axes; all of whole axes backwards is one REVERSE_V2."""
    x, output = input_of(node, 0), node.outputs[0]
    shape = context.shape(x)
    ranges = _slice_ranges(node, context, shape)
    if 0 in context.shape(output):
        raise UnsupportedError("a tensor without elements")
    if ranges == [range(size) for size in shape]:
        alias(context, output, x)
        return
    layout = context.axes_layout(x)
    tensor, result = context.use(x, layout), context.define(output, layout)
    take(tensor, [ranges[axis] for axis in layout.permutation(len(shape))], result, context)


def _slice_ranges(node: ir.Node, context: LoweringContext, shape: tuple[int, ...]) -> list[range]:
    """The positions taken of every axis, as Python's ranges."""
    starts = context.require_constant(node, 1, "starts").reshape(-1).tolist()
    ends = context.require_constant(node, 2, "ends").reshape(-1).tolist()
    axes = list(range(len(starts)))
    if optional_input(node, 3) is not None:
        axes = context.require_constant(node, 3, "axes").reshape(-1).tolist()
    steps = [1] * len(starts)
    if optional_input(node, 4) is not None:
        steps = context.require_constant(node, 4, "steps").reshape(-1).tolist()
    return ranges_of(shape, starts, ends, axes, steps)


def lower_pad(node: ir.Node, context: LoweringContext) -> None:
    """Pad: constant, reflect, edge or wrap; negative amounts crop."""
    x, output = input_of(node, 0), node.outputs[0]
    shape = context.shape(x)
    befores, afters = _pad_amounts(node, context, len(shape))
    mode = node.attributes.get_string("mode", "constant")
    layout = context.axes_layout(x)
    order = layout.permutation(len(shape))
    tensor = context.use(x, layout)
    if not any(befores) and not any(afters):
        alias(context, output, x)
        return
    if min(*befores, *afters) < 0:
        starts = [max(-befores[axis], 0) for axis in order]
        ends = [shape[axis] - max(-afters[axis], 0) for axis in order]
        tensor = strided_slice(tensor, starts, ends, [1] * len(order), context)
    amounts = [(max(befores[axis], 0), max(afters[axis], 0)) for axis in order]
    if not any(sum(pair) for pair in amounts):
        context.bind(output, layout, tensor)
    elif mode == "constant":
        fill = 0.0
        if optional_input(node, 2) is not None:
            fill = context.require_constant(node, 2, "the padding value").item()
        pad(tensor, amounts, context, fill, context.define(output, layout))
    elif mode == "reflect":
        check_reflects(tensor, amounts)
        paddings, result = integers(context, amounts, "paddings"), context.define(output, layout)
        mirror_pad(tensor, paddings, schema.MirrorPadMode.REFLECT, result, context)
    elif mode in ("edge", "wrap"):
        _pad_by_gather(tensor, amounts, mode, context.define(output, layout), context)
    else:
        raise UnsupportedError(f"mode {mode}")


def _pad_amounts(node: ir.Node, context: LoweringContext, rank: int) -> tuple[list[int], list[int]]:
    pads = context.require_constant(node, 1, "pads").reshape(-1).tolist()
    axes = list(range(rank))
    if optional_input(node, 3) is not None:
        axes = [axis % rank for axis in context.require_constant(node, 3, "axes").reshape(-1).tolist()]
    befores, afters = [0] * rank, [0] * rank
    for index, axis in enumerate(axes):
        befores[axis], afters[axis] = pads[index], pads[index + len(axes)]
    return befores, afters


def _pad_by_gather(
    tensor: Tensor, amounts: Sequence[tuple[int, int]], mode: str, result: Tensor, context: LoweringContext
) -> None:
    """Repeat the border (edge) or start again at the other end (wrap): one GATHER an axis."""
    axes = [axis for axis, pair in enumerate(amounts) if any(pair)]
    for axis in axes:
        size = tensor.shape[axis]
        positions = np.arange(-amounts[axis][0], size + amounts[axis][1])
        positions = np.clip(positions, 0, size - 1) if mode == "edge" else positions % size
        tensor = gather(tensor, positions, axis, context, result if axis == axes[-1] else None)


def lower_gather(node: ir.Node, context: LoweringContext) -> None:
    """y = x at constant `indices` of one axis; a scalar index removes the axis."""
    x, output = input_of(node, 0), node.outputs[0]
    shape = context.shape(x)
    rank = len(shape)
    axis = node.attributes.get_int("axis", 0) % rank
    indices = context.require_constant(node, 1, "the index").astype(np.int64) % shape[axis]
    layout = context.axes_layout(x) if indices.ndim < 2 else PLAIN
    result_layout = layout
    if indices.ndim == 0:
        kept = [other for other in range(rank) if other != axis]
        result_layout = ordered([kept.index(other) for other in layout.permutation(rank) if other != axis])
    tensor = context.use(x, layout)
    gather(tensor, indices, layout.axis(axis, rank), context, context.define(output, result_layout))


def lower_tile(node: ir.Node, context: LoweringContext) -> None:
    """x repeated along every axis."""
    x, output = input_of(node, 0), node.outputs[0]
    repeats = context.require_constant(node, 1, "repeats").reshape(-1).tolist()
    layout = context.axes_layout(x)
    multiples = integers(context, [repeats[axis] for axis in layout.permutation(len(repeats))], "repeats")
    operands = [context.use(x, layout), multiples]
    context.emit(BuiltinOperator.TILE, operands, [context.define(output, layout)], schema.TileOptionsT())


def lower_expand(node: ir.Node, context: LoweringContext) -> None:
    """x broadcast to the output's shape."""
    x, output = input_of(node, 0), node.outputs[0]
    shape = context.shape(output)
    if context.shape(x) == shape:
        alias(context, output, x)
        return
    layout = context.common_layout([x])
    layout = layout if layout.flat is None and len(context.shape(x)) == len(shape) else PLAIN
    tensor, result = context.use(x, layout, len(shape)), context.define(output, layout)
    broadcast(context, tensor, result.shape, result)


def lower_depth_to_space(node: ir.Node, context: LoweringContext) -> None:
    """Channels to b×b blocks of pixels.

    A channel stands for (row, column, c) in mode DCR, as in DEPTH_TO_SPACE, and for (c, row, column) in mode CRD.
    """
    x, output = input_of(node, 0), node.outputs[0]
    block = node.attributes.get_int("blocksize", 1)
    tensor = context.use(x, CHANNELS_LAST)
    result = context.define(output, CHANNELS_LAST)
    batch, height, width, channels = tensor.shape
    if node.attributes.get_string("mode", "DCR") == "DCR":
        options = schema.DepthToSpaceOptionsT()
        options.blockSize = block
        context.emit(BuiltinOperator.DEPTH_TO_SPACE, [tensor], [result], options)
        return
    parts = context.reshape(tensor, (batch, height, width, channels // block**2, block, block))
    context.reshape(context.transpose(parts, (0, 1, 4, 2, 5, 3)), result.shape, result)


def lower_space_to_depth(node: ir.Node, context: LoweringContext) -> None:
    """b×b blocks of pixels to channels ordered (row, column, c), as SPACE_TO_DEPTH does."""
    options = schema.SpaceToDepthOptionsT()
    options.blockSize = node.attributes.get_int("blocksize", 1)
    tensor = context.use(input_of(node, 0), CHANNELS_LAST)
    result = context.define(node.outputs[0], CHANNELS_LAST)
    context.emit(BuiltinOperator.SPACE_TO_DEPTH, [tensor], [result], options)


LOWERINGS = {
    "Identity": lower_identity,
    "Constant": lower_constant,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), lower_reshape),
    "Transpose": lower_transpose,
    "Concat": lower_concat,
    "Split": lower_split,
    "Slice": lower_slice,
    "Pad": lower_pad,
    "Gather": lower_gather,
    "Tile": lower_tile,
    "Expand": lower_expand,
    "DepthToSpace": lower_depth_to_space,
    "SpaceToDepth": lower_space_to_depth,
}
