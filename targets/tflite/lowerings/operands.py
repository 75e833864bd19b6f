"""Small things that many lowerings need: optional inputs, scalar constants, one operator on one value."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import PLAIN, Layout
from bnncc.targets.tflite.writer import Tensor

# Up to which rank every kernel of every runtime broadcasts its operands itself, and up to which it takes equal shapes.
# Beyond it some end the process: TensorFlow Lite 2.14 at MUL of rank 5, LiteRT 2.1 at DIV of rank 6
# (docs/conformance.md).
BROADCAST_RANK = 4
EQUAL_RANK = 5
# BROADCAST_TO exists from this version on, for these ranks.
BROADCAST_TO_VERSION = 2
BROADCAST_TO_RANK = 8


def input_of(node: ir.Node, index: int) -> ir.Value:
    """Input `index`, one that ONNX does not allow to be absent."""
    value = node.inputs[index]
    assert value is not None, f"{node.op_type} lacks input {index}"
    return value


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    """Input `index`, None where it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def scalar(context: LoweringContext, number: float, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """A constant of rank 0, which broadcasts against any tensor in any layout."""
    return context.constant(np.asarray(number, dtype), "scalar")


def integers(context: LoweringContext, numbers: object, name: str) -> Tensor:
    """An int32 constant: axes, paddings, indices."""
    return context.constant(np.asarray(numbers, np.int32), name)


def apply(
    context: LoweringContext,
    builtin: int,
    *operands: Tensor,
    output: Tensor | None = None,
    options: object | None = None,
    version: int = 1,
) -> Tensor:
    """An elementwise operator on tensors of the file; the result is like the first operand, or it is `output`."""
    if output is None:
        output = context.temporary(f"{operands[0].name}/step", operands[0].shape, operands[0].dtype)
    if len(operands) == 1:
        context.emit(builtin, operands, [output], options, version)
    else:
        emit_broadcast(context, builtin, operands, output, options)
    return output


def emit_broadcast(
    context: LoweringContext, builtin: int, operands: Sequence[Tensor], result: Tensor, options: object | None
) -> None:
    """An operator that broadcasts operands of one rank (or of rank 0).

    Above BROADCAST_RANK, neighbouring axes that all operands broadcast alike become one, [2, 3, 5, 7, 4] ∘ [3, 1, 1, 4]
    for example [2, 3, 35, 4] ∘ [1, 3, 1, 4]: RESHAPEs that move nothing.  Where that is not enough, BROADCAST_TO makes
    the operands equal first.
    """
    rank = len(result.shape)
    equal = all(operand.shape == result.shape for operand in operands)
    if rank > (EQUAL_RANK if equal else BROADCAST_RANK):
        merged = _merged([operand.shape for operand in operands], result.shape)
        if len(merged[-1]) > BROADCAST_RANK:
            operands = [broadcast(context, operand, result.shape) for operand in operands]
            merged = _merged([operand.shape for operand in operands], result.shape)
        shapes = merged[: len(operands)]
        operands = [context.reshape(operand, shape) for operand, shape in zip(operands, shapes, strict=True)]
        inner = context.temporary(f"{result.name}/merged", merged[-1], result.dtype)
        context.emit(builtin, operands, [inner], options)
        context.reshape(inner, result.shape, result)
        return
    if any(operand.shape == result.shape for operand in operands):
        operands = [
            operand if operand.shape == result.shape else _without_leading_ones(context, operand)
            for operand in operands
        ]
    context.emit(builtin, operands, [result], options)


def _merged(shapes: Sequence[tuple[int, ...]], result: tuple[int, ...]) -> list[tuple[int, ...]]:
    """`shapes`, which broadcast to `result`, and `result`, in as few axes as broadcast the same; no axis is of size 1
    in `result`, unless it is the only one.
    """
    padded = [(1,) * (len(result) - len(shape)) + shape for shape in shapes]
    groups: list[list[int]] = []
    previous: tuple[bool, ...] | None = None
    for axis, size in enumerate(result):
        if size == 1:
            continue
        spread = tuple(shape[axis] == 1 for shape in padded)
        if spread == previous:
            groups[-1].append(axis)
        else:
            groups.append([axis])
        previous = spread
    if not groups:
        return [(1,)] * (len(shapes) + 1)
    return [tuple(math.prod(shape[axis] for axis in group) for group in groups) for shape in (*padded, result)]


def _without_leading_ones(context: LoweringContext, tensor: Tensor) -> Tensor:
    """What a RESHAPE put ones in front of: broadcast beside a tensor of the full rank it is the same."""
    source = context.before_reshape(tensor)
    ones = len(tensor.shape) - len(source.shape)
    return source if ones > 0 and tensor.shape == (1,) * ones + source.shape else tensor


def broadcast(context: LoweringContext, tensor: Tensor, shape: tuple[int, ...], result: Tensor | None = None) -> Tensor:
    """BROADCAST_TO a shape of the same rank."""
    if result is None:
        if tensor.shape == shape:
            return tensor
        result = context.temporary(f"{tensor.name}/broadcast", shape, tensor.dtype)
    if len(shape) > BROADCAST_TO_RANK:
        raise UnsupportedError(f"broadcasting at rank {len(shape)}")
    operands = [tensor, integers(context, shape, "shape")]
    context.emit(BuiltinOperator.BROADCAST_TO, operands, [result], schema.BroadcastToOptionsT(), BROADCAST_TO_VERSION)
    return result


def alias(context: LoweringContext, value: ir.Value, source: ir.Value) -> None:
    """`value` is `source`: no operator."""
    layout: Layout = context.layout(source) or PLAIN
    context.bind(value, layout, context.use(source, layout))
