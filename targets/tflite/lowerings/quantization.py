"""Between floats and integers of 8 or 16 bits: DEQUANTIZE and QUANTIZE, whose scales are their tensors' own."""

from __future__ import annotations

import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import PLAIN
from bnncc.targets.tflite.lowerings.operands import apply, input_of

# The first versions that take such integers.
DEQUANTIZE_VERSIONS = {"uint8": 1, "int8": 2, "int16": 3}


def lower_dequantize(node: ir.Node, context: LoweringContext) -> None:
    """y = scale · (q − zero point), with one of each for all elements."""
    x = input_of(node, 0)
    dtype = context.dtype(x).name
    if not _has_one_scale(x, context):
        raise UnsupportedError(f"of {dtype}, or with a scale that is no constant, or one a channel")
    layout = context.layout(x) or PLAIN
    apply(
        context,
        BuiltinOperator.DEQUANTIZE,
        context.use(x, layout),
        output=context.define(node.outputs[0], layout),
        options=schema.DequantizeOptionsT(),
        version=DEQUANTIZE_VERSIONS[dtype],
    )


def lower_quantize(node: ir.Node, context: LoweringContext) -> None:
    """q = round(x / scale) + zero point, saturated; what becomes of ties is the kernel's choice."""
    x, output = input_of(node, 0), node.outputs[0]
    if not _has_one_scale(output, context):
        kinds = "uint8, int8 and, with the zero point 0, int16"
        raise UnsupportedError(f"to another type than {kinds}, or with a scale that is no constant, or several")
    layout = context.layout(x) or PLAIN
    apply(
        context,
        BuiltinOperator.QUANTIZE,
        context.use(x, layout),
        output=context.define(output, layout),
        options=schema.QuantizeOptionsT(),
    )


def _has_one_scale(value: ir.Value, context: LoweringContext) -> bool:
    """True for integers as the kernels take them: those of 16 bits have the zero point 0."""
    dtype, scale = context.dtype(value).name, context.quantization(value)
    return dtype in DEQUANTIZE_VERSIONS and scale is not None and (dtype != "int16" or scale.zero_points == (0,))


LOWERINGS = {"DequantizeLinear": lower_dequantize, "QuantizeLinear": lower_quantize}
