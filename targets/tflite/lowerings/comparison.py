"""Comparisons, logic, Where and Cast."""

from __future__ import annotations

import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import PLAIN
from bnncc.targets.tflite.lowerings.operands import alias, apply, emit_broadcast, input_of
from bnncc.targets.tflite.writer import TENSOR_TYPES, Tensor

_BINARY = {
    "Equal": (BuiltinOperator.EQUAL, schema.EqualOptionsT),
    "Less": (BuiltinOperator.LESS, schema.LessOptionsT),
    "LessOrEqual": (BuiltinOperator.LESS_EQUAL, schema.LessEqualOptionsT),
    "Greater": (BuiltinOperator.GREATER, schema.GreaterOptionsT),
    "GreaterOrEqual": (BuiltinOperator.GREATER_EQUAL, schema.GreaterEqualOptionsT),
    "And": (BuiltinOperator.LOGICAL_AND, schema.LogicalAndOptionsT),
    "Or": (BuiltinOperator.LOGICAL_OR, schema.LogicalOrOptionsT),
    "Xor": (BuiltinOperator.NOT_EQUAL, schema.NotEqualOptionsT),
}
# The types between which CAST is exact in both directions as ONNX defines it.
_CASTS = ("float32", "int32", "bool", "int8", "uint8")
_BYTES = ("int8", "uint8")


def lower_comparison(node: ir.Node, context: LoweringContext) -> None:
    """y = a ∘ b, a boolean."""
    builtin, options_class = _BINARY[node.op_type]
    values = [input_of(node, 0), input_of(node, 1)]
    layout = context.common_layout(values)
    rank = len(context.shape(node.outputs[0]))
    operands = [context.use(value, layout, rank) for value in values]
    emit_broadcast(context, builtin, operands, context.define(node.outputs[0], layout), options_class())


def lower_not(node: ir.Node, context: LoweringContext) -> None:
    """y = not x."""
    x = input_of(node, 0)
    layout = context.layout(x) or PLAIN
    result = context.define(node.outputs[0], layout)
    apply(
        context,
        BuiltinOperator.LOGICAL_NOT,
        context.use(x, layout),
        output=result,
        options=schema.LogicalNotOptionsT(),
    )


def lower_where(node: ir.Node, context: LoweringContext) -> None:
    """y = a where the condition holds, b elsewhere."""
    values = [input_of(node, index) for index in range(3)]
    layout = context.common_layout(values)
    rank = len(context.shape(node.outputs[0]))
    operands = [context.use(value, layout, rank) for value in values]
    result = context.define(node.outputs[0], layout)
    emit_broadcast(context, BuiltinOperator.SELECT_V2, operands, result, schema.SelectV2OptionsT())


def lower_cast(node: ir.Node, context: LoweringContext) -> None:
    """Change of element type; none where the file stores both types alike (int64 as int32).

    A float becomes a byte by way of int32, whose lowest bits are kept, as PyTorch and ONNX Runtime have it on x86-64.
    By itself CAST leaves what lies outside of a byte's range to the compiler.
    """
    x, output = input_of(node, 0), node.outputs[0]
    before, after = context.dtype(x).name, context.dtype(output).name
    if before == after:
        alias(context, output, x)
        return
    if before not in _CASTS or after not in _CASTS:
        raise UnsupportedError(f"from {before} to {after}")
    layout = context.layout(x) or PLAIN
    value = context.use(x, layout)
    if before == "float32" and after in _BYTES:
        whole = context.temporary(f"{value.name}/whole", value.shape, "int32")
        value, before = _cast(context, value, whole, before, "int32"), "int32"
    _cast(context, value, context.define(output, layout), before, after)


def _cast(context: LoweringContext, value: Tensor, output: Tensor, before: str, after: str) -> Tensor:
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = TENSOR_TYPES[before], TENSOR_TYPES[after]
    return apply(context, BuiltinOperator.CAST, value, output=output, options=options)


LOWERINGS = {**dict.fromkeys(_BINARY, lower_comparison), "Not": lower_not, "Where": lower_where, "Cast": lower_cast}
