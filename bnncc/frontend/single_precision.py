"""Bring a float16, bfloat16 or float64 graph to float32, in which bnncc computes.

float16 and bfloat16 fit exactly; float64 parameters are rounded.  What the network computes in the narrower type is
computed in float32 instead, so results differ by its rounding.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

OTHERS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
# Their weights tell what a graph computes in.
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"}


def to_float32(model: ir.Model) -> str | None:
    """Convert, in place, a graph whose inputs or weights are of another float type.  Returns a word, or None."""
    graph = model.graph
    found = {value.dtype for value in graph.inputs if value.dtype in OTHERS}
    for node in graph.all_nodes():
        if node.op_type in _WEIGHTED:
            weights = [value.const_value for value in node.inputs[1:] if value is not None]
            found |= {tensor.dtype for tensor in weights if tensor is not None and tensor.dtype in OTHERS}
    if not found:
        return None
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in OTHERS:
            value.const_value = _converted(value.const_value)
            value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(value.const_value.shape.numpy())
    for value in [*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)]:
        if value.dtype in OTHERS:
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in graph.all_nodes():
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in OTHERS:
                node.attributes[name] = ir.AttrTensor(name, _converted(attribute.as_tensor()))
            elif name in ("to", "dtype") and attribute.type == ir.AttributeType.INT and attribute.as_int() in OTHERS:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
    names = ", ".join(sorted(map(str, found)))
    return f"its parameters are of type {names}: bnncc computes in FLOAT, as the .tflite file does"


def _converted(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.Tensor(np.ascontiguousarray(tensor.numpy().astype(np.float32)), name=tensor.name)
