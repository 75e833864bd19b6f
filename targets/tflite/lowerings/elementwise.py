"""Arithmetic value by value: on one tensor, on two with NumPy broadcasting, on any number (Max, Min, Sum, Mean)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ActivationFunctionType, BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import PLAIN
from bnncc.targets.tflite.lowerings.operands import alias, apply, emit_broadcast, input_of, scalar

# ONNX operator: (TensorFlow Lite operator, its options class); all of them can apply an activation to their output.
_BINARY = {
    "Add": (BuiltinOperator.ADD, schema.AddOptionsT),
    "Sub": (BuiltinOperator.SUB, schema.SubOptionsT),
    "Mul": (BuiltinOperator.MUL, schema.MulOptionsT),
    "Div": (BuiltinOperator.DIV, schema.DivOptionsT),
}
_VARIADIC = {
    "Max": (BuiltinOperator.MAXIMUM, schema.MaximumMinimumOptionsT),
    "Min": (BuiltinOperator.MINIMUM, schema.MaximumMinimumOptionsT),
    "Sum": (BuiltinOperator.ADD, schema.AddOptionsT),
    "Mean": (BuiltinOperator.ADD, schema.AddOptionsT),
}
_UNARY = {
    "Abs": (BuiltinOperator.ABS, schema.AbsOptionsT),
    "Neg": (BuiltinOperator.NEG, schema.NegOptionsT),
    "Sqrt": (BuiltinOperator.SQRT, None),
    "Exp": (BuiltinOperator.EXP, schema.ExpOptionsT),
    "Log": (BuiltinOperator.LOG, None),
    "Floor": (BuiltinOperator.FLOOR, None),
    "Ceil": (BuiltinOperator.CEIL, None),
    "Round": (BuiltinOperator.ROUND, None),
    "Sign": (BuiltinOperator.SIGN, schema.SignOptionsT),
    "Sin": (BuiltinOperator.SIN, None),
    "Cos": (BuiltinOperator.COS, schema.CosOptionsT),
    "Sigmoid": (BuiltinOperator.LOGISTIC, None),
    "Tanh": (BuiltinOperator.TANH, None),
    "HardSwish": (BuiltinOperator.HARD_SWISH, schema.HardSwishOptionsT),
}
# The first version of an operator whose kernel takes int32.
_INT32_VERSIONS = {BuiltinOperator.ABS: 5, BuiltinOperator.SIGN: 2}
_INT32_UNARY = ("Abs", "Neg", "Sign")


def lower_binary(node: ir.Node, context: LoweringContext) -> None:
    """y = a ∘ b."""
    builtin, options_class = _BINARY[node.op_type]
    left, right = input_of(node, 0), input_of(node, 1)
    layout = context.common_layout([left, right])
    rank = len(context.shape(node.outputs[0]))
    options = options_class()
    options.fusedActivationFunction, output = context.fuse_activation(node.outputs[0])
    operands = [context.use(left, layout, rank), context.use(right, layout, rank)]
    emit_broadcast(context, builtin, operands, context.define(output, layout), options)


def lower_pow(node: ir.Node, context: LoweringContext) -> None:
    """y = xᵃ; a square has its own kernel.  ONNX allows another element type for a, TensorFlow Lite does not."""
    x, exponent = input_of(node, 0), input_of(node, 1)
    layout = context.common_layout([x, exponent])
    shape, dtype = context.shape(node.outputs[0]), context.dtype(x)
    array, options = context.constant_value(exponent), schema.PowOptionsT()
    if array is not None and array.size == 1 and dtype == np.float32 and context.shape(x) == shape:
        result = context.define(node.outputs[0], layout)
        if array.item() == 2:
            apply(context, BuiltinOperator.SQUARE, context.use(x, layout), output=result)
        else:
            power = scalar(context, array.item())
            apply(context, BuiltinOperator.POW, context.use(x, layout), power, output=result, options=options)
        return
    if context.dtype(exponent) != dtype:
        raise UnsupportedError("an exponent of another type than the base")
    operands = [context.use(x, layout, len(shape)), context.use(exponent, layout, len(shape))]
    emit_broadcast(context, BuiltinOperator.POW, operands, context.define(node.outputs[0], layout), options)


def lower_variadic(node: ir.Node, context: LoweringContext) -> None:
    """y = a ∘ b ∘ c ∘ …; Mean divides by their number."""
    builtin, options_class = _VARIADIC[node.op_type]
    values = [input_of(node, index) for index in range(len(node.inputs))]
    if len(values) == 1:
        alias(context, node.outputs[0], values[0])
        return
    layout = context.common_layout(values)
    rank = len(context.shape(node.outputs[0]))
    mean = node.op_type == "Mean"
    output, activation = node.outputs[0], ActivationFunctionType.NONE
    if builtin == BuiltinOperator.ADD:
        activation, output = context.fuse_activation(output)
    total = context.use(values[0], layout, rank)
    result = context.define(output, layout)
    for value in values[1:]:
        operands = [total, context.use(value, layout, rank)]
        last = value is values[-1] and not mean
        options = options_class()
        if last and builtin == BuiltinOperator.ADD:
            options.fusedActivationFunction = activation
        shape = [max(sizes) for sizes in zip(*(operand.shape for operand in operands), strict=True)]
        total = result if last else context.temporary(f"{result.name}/step", shape, result.dtype)
        emit_broadcast(context, builtin, operands, total, options)
    if mean:
        options = schema.MulOptionsT()
        options.fusedActivationFunction = activation
        share = scalar(context, 1 / len(values))
        apply(context, BuiltinOperator.MUL, total, share, output=result, options=options)


def lower_unary(node: ir.Node, context: LoweringContext) -> None:
    """y = f(x), stored as x is."""
    builtin, options_class = _UNARY[node.op_type]
    x = input_of(node, 0)
    layout = context.layout(x) or PLAIN
    dtype = context.dtype(x).name
    if dtype != "float32" and not (dtype == "int32" and node.op_type in _INT32_UNARY):
        raise UnsupportedError(f"no kernel for {dtype}")
    version = _INT32_VERSIONS.get(builtin, 1) if dtype == "int32" else 1
    options = options_class() if options_class else None
    apply(
        context,
        builtin,
        context.use(x, layout),
        output=context.define(node.outputs[0], layout),
        options=options,
        version=version,
    )


def lower_mod(node: ir.Node, context: LoweringContext) -> None:
    """The remainder of x / y, which has the sign of y; with fmod=1 that of x: sign(x) · (|x| mod |y|)."""
    x, y = input_of(node, 0), input_of(node, 1)
    dtype = context.dtype(x).name
    has_sign_of_x = bool(node.attributes.get_int("fmod", 0))
    if dtype not in ("float32", "int32") or (has_sign_of_x and dtype != "float32"):
        raise UnsupportedError(f"no kernel for {dtype}" + (" with fmod=1" if has_sign_of_x else ""))
    layout = context.common_layout([x, y])
    rank = len(context.shape(node.outputs[0]))
    operands = [context.use(x, layout, rank), context.use(y, layout, rank)]
    result = context.define(node.outputs[0], layout)
    options = schema.FloorModOptionsT()
    if not has_sign_of_x:
        emit_broadcast(context, BuiltinOperator.FLOOR_MOD, operands, result, options)
        return
    magnitudes = [apply(context, BuiltinOperator.ABS, one, options=schema.AbsOptionsT()) for one in operands]
    remainder = context.temporary(f"{result.name}/remainder", result.shape, result.dtype)
    emit_broadcast(context, BuiltinOperator.FLOOR_MOD, magnitudes, remainder, options)
    sense = apply(context, BuiltinOperator.SIGN, operands[0], options=schema.SignOptionsT())
    apply(context, BuiltinOperator.MUL, remainder, sense, output=result, options=schema.MulOptionsT())


def lower_reciprocal(node: ir.Node, context: LoweringContext) -> None:
    """y = 1 / x."""
    x = input_of(node, 0)
    layout = context.layout(x) or PLAIN
    result = context.define(node.outputs[0], layout)
    operands = [scalar(context, 1), context.use(x, layout)]
    emit_broadcast(context, BuiltinOperator.DIV, operands, result, schema.DivOptionsT())


LOWERINGS = {
    **dict.fromkeys(_BINARY, lower_binary),
    **dict.fromkeys(_VARIADIC, lower_variadic),
    **dict.fromkeys(_UNARY, lower_unary),
    "Mod": lower_mod,
    "Pow": lower_pow,
    "Reciprocal": lower_reciprocal,
}
