"""Operators that only move elements, on packed tensors: TensorFlow Lite's own, on int32 words.

`bnncc.ir.bit_moves` says which nodes these are.  ONNX's axis 1 is the last one of the file, and counts words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.ir import bit_moves
from bnncc.ir.graph import constant_of
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import CHANNELS_LAST
from bnncc.targets.tflite.lowerings.lce import bind_signs, packed_form, packed_output
from bnncc.targets.tflite.lowerings.moves import check_reflects, concatenate, gather, mirror_pad, pad, split, take
from bnncc.targets.tflite.lowerings.operands import input_of, integers, scalar
from bnncc.targets.tflite.writer import Tensor

# Fills all bits of an int32 word: 32 times -1.
ALL_BITS = -1


def lower_bit_move(node: ir.Node, context: LoweringContext) -> None:
    """Move the words of the packed inputs; unpack the results that a float operator reads."""
    LOWERINGS[node.op_type](node, context)


def _stored_axis(node: ir.Node, context: LoweringContext) -> int:
    rank = len(context.shape(node.outputs[0]))
    return CHANNELS_LAST.axis(node.attributes.get_int("axis", 0), rank)


def _source(node: ir.Node, context: LoweringContext) -> Tensor:
    return packed_form(input_of(node, 0), context)


def _identity(node: ir.Node, context: LoweringContext) -> None:
    bind_signs(node.outputs[0], _source(node, context), context)


def _reshape(node: ir.Node, context: LoweringContext) -> None:
    y = node.outputs[0]
    source, result = _source(node, context), packed_output(y, context)
    if source.shape == result.shape:
        bind_signs(y, source, context)
    else:
        bind_signs(y, context.reshape(source, result.shape, result), context)


def _transpose(node: ir.Node, context: LoweringContext) -> None:
    y = node.outputs[0]
    rank = len(context.shape(y))
    permutation, order = node.attributes.get_ints("perm") or (), CHANNELS_LAST.permutation(rank)
    stored = [order.index(permutation[axis]) for axis in order]
    bind_signs(y, context.transpose(_source(node, context), stored, packed_output(y, context)), context)


def _concat(node: ir.Node, context: LoweringContext) -> None:
    y = node.outputs[0]
    parts = [packed_form(input_of(node, index), context) for index in range(len(node.inputs))]
    result = packed_output(y, context)
    concatenate(parts, _stored_axis(node, context), result, context)
    bind_signs(y, result, context)


def _split(node: ir.Node, context: LoweringContext) -> None:
    axis = _stored_axis(node, context)
    source, results = _source(node, context), [packed_output(y, context) for y in node.outputs]
    split(source, scalar(context, axis, np.int32), [result.shape[axis] for result in results], results, context)
    for y, result in zip(node.outputs, results, strict=True):
        bind_signs(y, result, context)


def _slice(node: ir.Node, context: LoweringContext) -> None:
    y, spans = node.outputs[0], bit_moves.slice_ranges(node)
    source, result = _source(node, context), packed_output(y, context)
    if spans is None:
        raise UnsupportedError("its positions are not constant")
    stored = [spans[axis] for axis in CHANNELS_LAST.permutation(len(spans))]
    stored[-1] = bit_moves.word_range(stored[-1])
    take(source, stored, result, context)
    bind_signs(y, result, context)


def _pad(node: ir.Node, context: LoweringContext) -> None:
    """PAD with 0 for +1, PADV2 with all bits set for -1, MIRROR_PAD; what repeats an edge or goes round is gathered."""
    y, amounts = node.outputs[0], bit_moves.pad_amounts(node)
    source, result = _source(node, context), packed_output(y, context)
    if amounts is None:
        raise UnsupportedError("its amounts are not constant")
    stored = [amounts[axis] for axis in CHANNELS_LAST.permutation(len(amounts))]
    mode = bit_moves.pad_mode(node)
    if mode in ("edge", "wrap"):
        padded = [axis for axis, pair in enumerate(stored) if any(pair)]
        for axis in padded:
            positions = np.arange(source.shape[axis])
            positions = np.pad(positions, stored[axis], mode="edge" if mode == "edge" else "wrap")
            source = gather(source, positions, axis, context, result if axis == padded[-1] else None)
        result = source
    elif mode == "reflect":
        check_reflects(source, stored)
        mirror_pad(source, integers(context, stored, "paddings"), schema.MirrorPadMode.REFLECT, result, context)
    else:
        pad(source, stored, context, 0 if bit_moves.pad_value(node) == 1 else ALL_BITS, result)
    bind_signs(y, result, context)


def _tile(node: ir.Node, context: LoweringContext) -> None:
    y, repeats = node.outputs[0], context.require_constant(node, 1, "repeats").reshape(-1)
    multiples = integers(context, [repeats[axis] for axis in CHANNELS_LAST.permutation(repeats.size)], "repeats")
    result = packed_output(y, context)
    context.emit(BuiltinOperator.TILE, [_source(node, context), multiples], [result], schema.TileOptionsT())
    bind_signs(y, result, context)


def _gather(node: ir.Node, context: LoweringContext) -> None:
    y, axis = node.outputs[0], _stored_axis(node, context)
    source, result = _source(node, context), packed_output(y, context)
    indices = constant_of(node.inputs[1])
    assert indices is not None
    if axis == len(source.shape) - 1:
        positions = bit_moves.word_indices(node)
    else:
        positions = [int(index) % source.shape[axis] for index in indices]
    assert positions is not None
    gather(source, positions, axis, context, result)
    bind_signs(y, result, context)


def _space_to_depth(node: ir.Node, context: LoweringContext) -> None:
    _move_blocks(BuiltinOperator.SPACE_TO_DEPTH, schema.SpaceToDepthOptionsT(), node, context)


def _depth_to_space(node: ir.Node, context: LoweringContext) -> None:
    _move_blocks(BuiltinOperator.DEPTH_TO_SPACE, schema.DepthToSpaceOptionsT(), node, context)


def _move_blocks(builtin: int, options: Any, node: ir.Node, context: LoweringContext) -> None:
    options.blockSize = node.attributes.get_int("blocksize", 1)
    result = packed_output(node.outputs[0], context)
    context.emit(builtin, [_source(node, context)], [result], options)
    bind_signs(node.outputs[0], result, context)


LOWERINGS: dict[str, Callable[[ir.Node, LoweringContext], None]] = {
    "Identity": _identity,
    **dict.fromkeys(bit_moves.RESHAPES, _reshape),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Tile": _tile,
    "Gather": _gather,
    "SpaceToDepth": _space_to_depth,
    "DepthToSpace": _depth_to_space,
}
