"""Between floats and 8-bit integers: DEQUANTIZE and QUANTIZE, whose scale and zero point are their tensors' own."""

from __future__ import annotations

import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import PLAIN
from bnncc.targets.tflite.lowerings.operands import apply, input_of

# The first versions that take int8.
DEQUANTIZE_VERSIONS = {"uint8": 1, "int8": 2}


def lower_dequantize(node: ir.Node, context: LoweringContext) -> None:
    """y = scale · (q − zero point), with one of each for all elements."""
    x = input_of(node, 0)
    dtype = context.dtype(x).name
    if dtype not in DEQUANTIZE_VERSIONS or context.quantization(x) is None:
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
    if context.dtype(output).name not in DEQUANTIZE_VERSIONS or context.quantization(output) is None:
        raise UnsupportedError("to another type than uint8 and int8, or with a scale that is no constant, or several")
    layout = context.layout(x) or PLAIN
    apply(
        context,
        BuiltinOperator.QUANTIZE,
        context.use(x, layout),
        output=context.define(output, layout),
        options=schema.QuantizeOptionsT(),
    )


LOWERINGS = {"DequantizeLinear": lower_dequantize, "QuantizeLinear": lower_quantize}
