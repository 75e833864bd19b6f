"""What a tensor of integers stands for in the file: the scale and zero point that the graph has beside it.

In ONNX the operators between floats and integers have them, in TensorFlow Lite the tensors: so a tensor's are those of
the operator that makes or reads it, by way of what only moves elements.
"""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import QUANTIZED_KEY, known_array
from bnncc.ir.value_facts import MOVES, data_inputs
from bnncc.targets.tflite.writer import Quantization

_INTEGERS = (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT16)


def quantization_of(value: ir.Value) -> Quantization | None:
    """None for a value of another type, and for integers that are just that."""
    return _found(value, set()) if value.dtype in _INTEGERS else None


def _found(value: ir.Value, seen: set[ir.Value]) -> Quantization | None:
    seen.add(value)
    entry = value.metadata_props.get(QUANTIZED_KEY)
    if entry is not None:
        content = json.loads(entry)
        return Quantization((float(content["scale"]),), (int(content["zero_point"]),), 0)
    producer = value.producer()
    nodes = [producer, *(use.node for use in value.uses() if use.idx == 0)]
    for node, op_type in zip(nodes, ["QuantizeLinear", *["DequantizeLinear"] * len(nodes)], strict=False):
        if node is not None and node.domain == "" and node.op_type == op_type:
            return _parameters(node)
    beside = list[ir.Value]()
    for node in nodes:
        if node is not None and node.domain == "" and node.op_type in MOVES:
            beside += data_inputs(node) if node is producer else node.outputs
    for other in beside:
        if other not in seen and other.dtype == value.dtype and (found := _found(other, seen)) is not None:
            return found
    return None


def _parameters(node: ir.Node) -> Quantization | None:
    scale, point = (known_array(value) for value in (*node.inputs[1:3], None, None)[:2])
    if (
        scale is None
        or scale.size != 1
        or (point is None and len(node.inputs) > 2)
        or (point is not None and point.size != 1)
    ):
        return None
    zero_point = 0 if point is None else int(np.reshape(point, ())[()])
    return Quantization((float(np.reshape(scale, ())[()]),), (zero_point,), 0)
