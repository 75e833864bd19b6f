"""Emission: an ONNX graph in, the bytes of a TensorFlow Lite file out.

In reading order: `layout` (NCHW to NHWC), `writer` (the flatbuffer), `precision` (float16 and int8 weights), `context`
(what a lowering works with), `lowerings` (one function an operator), `emit` (the walk over the graph).
"""

from bnncc.targets.tflite.emit import emit, packed_layouts
from bnncc.targets.tflite.precision import WeightsPrecision

__all__ = ["WeightsPrecision", "emit", "packed_layouts"]
