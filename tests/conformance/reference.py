"""What a graph should yield: ONNX's own reference evaluator, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bnncc.ir.evaluate import Array
from tests.conformance.reference_operators import OPERATORS

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE


class Reference:
    """A graph, made float64 throughout."""

    def __init__(self, model: ir.Model) -> None:
        proto = ir.serde.serialize_model(model)
        _widen_graph(proto.graph)
        for function in proto.functions:
            for node in function.node:
                _widen_node(node)
            _give_defaults(proto.graph, function)
        self._evaluator = ReferenceEvaluator(proto, new_ops=list(OPERATORS))

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs, floats as float64, in PyTorch's order (NCHW)."""
        feeds = {
            name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in inputs.items()
        }
        with np.errstate(all="ignore"):
            return [np.asarray(output) for output in self._evaluator.run(None, feeds)]

    def values(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Of graphs of 8-bit integers: every value, by its name."""
        found: dict[str, Array] = self._evaluator.run(None, dict(inputs), intermediate=True)
        return found


def _give_defaults(graph: onnx.GraphProto, function: onnx.FunctionProto) -> None:
    """Write out the defaults of a function's attributes, which the evaluator does not know."""
    for node in graph.node:
        if (node.domain, node.op_type) == (function.domain, function.name):
            given = {attribute.name for attribute in node.attribute}
            node.attribute.extend(default for default in function.attribute_proto if default.name not in given)


def _widen_graph(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == _FLOAT:
            value.type.tensor_type.elem_type = _DOUBLE
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT:
            attribute.i = _DOUBLE
        if (
            node.op_type == "Constant"
            and attribute.name in ("value_float", "value_floats")
            and not attribute.ref_attr_name
        ):
            given = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            tensor = onnx.numpy_helper.from_array(np.asarray(given, np.float64))
            attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _FLOAT:
        wide = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
        tensor.CopyFrom(wide)
