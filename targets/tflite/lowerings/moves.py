"""Moves of a file's tensors, in the file's order of axes: pad, cut, turn round, split, join, gather.

The lowerings of float values (`shape`), of packed ones (`bit_moves`) and of windows come down to these.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.lowerings.operands import integers
from bnncc.targets.tflite.writer import Tensor

# The first versions of REVERSE_V2 that take these types.
REVERSE_VERSIONS = {"bool": 2, "int8": 3}


def pad(
    tensor: Tensor,
    amounts: Sequence[tuple[int, int]],
    context: LoweringContext,
    fill: float = 0.0,
    output: Tensor | None = None,
) -> Tensor:
    """PAD `tensor` by `amounts` (before, after) an axis with `fill`; PADV2 where that is not 0."""
    shape = [size + before + after for size, (before, after) in zip(tensor.shape, amounts, strict=True)]
    if len(shape) > 5:
        raise UnsupportedError("padding at rank 6 or more")
    if output is None:
        output = context.temporary(f"{tensor.name}/pad", shape, tensor.dtype)
    version = 4 if len(shape) > 4 else 1
    paddings = integers(context, amounts, "paddings")
    if fill == 0:
        context.emit(BuiltinOperator.PAD, [tensor, paddings], [output], schema.PadOptionsT(), version)
    else:
        value = context.constant(np.asarray([fill], tensor.dtype), "padding_value")
        context.emit(BuiltinOperator.PADV2, [tensor, paddings, value], [output], schema.PadV2OptionsT(), version)
    return output


def crop(
    tensor: Tensor,
    begins: Sequence[int],
    ends: Sequence[int],
    context: LoweringContext,
    output: Tensor | None = None,
) -> Tensor:
    """`tensor` from `begins` to `ends`, as one STRIDED_SLICE."""
    return strided_slice(tensor, begins, ends, [1] * len(begins), context, output)


def reverse(tensor: Tensor, axes: Sequence[int], output: Tensor, context: LoweringContext) -> None:
    """REVERSE_V2, one for each axis: TensorFlow Lite 2.14 reverses only one of several, and goes on."""
    version = REVERSE_VERSIONS.get(tensor.dtype, 1)
    for axis in axes:
        is_last = axis == axes[-1]
        result = (
            output
            if is_last
            else context.temporary(f"{output.name}/reversed", output.shape, output.dtype, output.quantization)
        )
        operands = [tensor, integers(context, [axis], "axes")]
        context.emit(BuiltinOperator.REVERSE_V2, operands, [result], schema.ReverseV2OptionsT(), version)
        tensor = result


def strided_slice(
    tensor: Tensor,
    begins: Sequence[int],
    ends: Sequence[int],
    steps: Sequence[int],
    context: LoweringContext,
    output: Tensor | None = None,
) -> Tensor:
    """STRIDED_SLICE with Python's `range(begin, end, step)` on each axis; an end of -1 goes with a negative step."""
    if len(begins) > 5:
        raise UnsupportedError("a slice at rank 6 or more")
    if output is None:
        shape = [len(range(*item)) for item in zip(begins, ends, steps, strict=True)]
        output = context.temporary(f"{tensor.name}/slice", shape, tensor.dtype)
    options = schema.StridedSliceOptionsT()
    # TensorFlow Lite reads an end of -1 as the last position; its mask bit means 'to the first one and including it'.
    options.endMask = sum(1 << axis for axis, end in enumerate(ends) if end < 0)
    operands = [tensor, *(integers(context, numbers, "slice") for numbers in (begins, ends, steps))]
    version = 4 if len(begins) > 4 else 3 if tensor.dtype == "bool" else 1
    context.emit(BuiltinOperator.STRIDED_SLICE, operands, [output], options, version)
    return output


def take(tensor: Tensor, spans: Sequence[range], output: Tensor, context: LoweringContext) -> None:
    """The positions `spans` of every axis: STRIDED_SLICE, or REVERSE_V2 where axes are only turned round."""
    changed = [axis for axis, span in enumerate(spans) if span != range(tensor.shape[axis])]
    if changed and all(spans[axis] == range(tensor.shape[axis])[::-1] for axis in changed):
        reverse(tensor, changed, output, context)
    else:
        starts, stops, steps = ([getattr(span, part) for span in spans] for part in ("start", "stop", "step"))
        strided_slice(tensor, starts, stops, steps, context, output)


def mirror_pad(tensor: Tensor, paddings: Tensor, mode: int, output: Tensor, context: LoweringContext) -> None:
    """MIRROR_PAD with the schema's `mode`; `paddings` holds (before, after) for every axis."""
    options = schema.MirrorPadOptionsT()
    options.mode = mode
    context.emit(BuiltinOperator.MIRROR_PAD, [tensor, paddings], [output], options)


def check_reflects(tensor: Tensor, amounts: Sequence[tuple[int, int]]) -> None:
    """UnsupportedError where a `tensor` reflected by `amounts` (before, after) an axis would need more than it has."""
    if any(max(pair) >= size for pair, size in zip(amounts, tensor.shape, strict=True)):
        raise UnsupportedError("reflect by the size of the axis or more")


def split(
    tensor: Tensor, axis: Tensor, sizes: Sequence[int], outputs: Sequence[Tensor], context: LoweringContext
) -> None:
    """`tensor` cut along `axis` into `sizes`; SPLIT where all are equal, SPLIT_V else."""
    if len(set(sizes)) == 1:
        options = schema.SplitOptionsT()
        options.numSplits = len(sizes)
        version = 3 if tensor.dtype == "int32" else 1
        context.emit(BuiltinOperator.SPLIT, [axis, tensor], outputs, options, version)
    else:
        options = schema.SplitVOptionsT()
        options.numSplits = len(sizes)
        context.emit(BuiltinOperator.SPLIT_V, [tensor, integers(context, sizes, "sizes"), axis], outputs, options)


def concatenate(parts: Sequence[Tensor], axis: int, output: Tensor, context: LoweringContext) -> None:
    """`parts` one after the other along `axis`."""
    options = schema.ConcatenationOptionsT()
    options.axis = axis
    context.emit(BuiltinOperator.CONCATENATION, parts, [output], options)


def gather(
    tensor: Tensor, indices: npt.ArrayLike, axis: int, context: LoweringContext, result: Tensor | None = None
) -> Tensor:
    """GATHER constant, non-negative `indices` of the stored `axis`."""
    if result is None:
        shape = (*tensor.shape[:axis], *np.shape(indices), *tensor.shape[axis + 1 :])
        result = context.temporary(f"{tensor.name}/gather", shape, tensor.dtype)
    options = schema.GatherOptionsT()
    options.axis = axis
    version = 3 if tensor.dtype == "bool" else 1
    context.emit(BuiltinOperator.GATHER, [tensor, integers(context, indices, "indices")], [result], options, version)
    return result
