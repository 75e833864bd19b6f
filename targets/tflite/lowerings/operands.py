"""Small things that many lowerings need: optional inputs, scalar constants, one operator on one value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import PLAIN, Layout
from bnncc.targets.tflite.writer import Tensor

# Up to which rank a kernel broadcasts its operands itself (beyond it the interpreter aborts the process), and the first
# version of the operator that does so at rank 5.
_BROADCAST_RANKS = {
    BuiltinOperator.ADD: (6, 1),
    BuiltinOperator.SUB: (6, 3),
    BuiltinOperator.MUL: (6, 1),
    BuiltinOperator.DIV: (6, 2),
    BuiltinOperator.MAXIMUM: (5, 3),
    BuiltinOperator.MINIMUM: (5, 3),
    BuiltinOperator.SELECT_V2: (5, 1),
}
LEAST_BROADCAST_RANK = 4
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
    """An operator that broadcasts operands of one rank (or of rank 0); BROADCAST_TO first where its kernel cannot."""
    rank, version = len(result.shape), 1
    if any(operand.shape != result.shape for operand in operands) and rank > LEAST_BROADCAST_RANK:
        largest, version = _BROADCAST_RANKS.get(builtin, (LEAST_BROADCAST_RANK, 1))
        if rank > largest:
            operands = [broadcast(context, operand, result.shape) for operand in operands]
            version = 1
    if rank <= LEAST_BROADCAST_RANK and any(operand.shape == result.shape for operand in operands):
        operands = [
            operand if operand.shape == result.shape else _without_leading_ones(context, operand)
            for operand in operands
        ]
    context.emit(builtin, operands, [result], options, version)


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
