"""Emit a model, run it in LCE's interpreter, and compare with ONNX Runtime on the model that went in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import torch
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.inference.graph_runner import OrtRunner
from bnncc.inference.runners import Array, FileRunner, LceRunner, Runtime
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.writer import unpack
from tests.needs import RUNTIMES
from tests.targets.interpreter.native import InterpreterRunner

# Allowed difference relative to the largest magnitude of an output: sums are taken in another order.
TOLERANCE = 1e-5

_OPERATOR_NAMES = {code: name for name, code in vars(BuiltinOperator).items() if not name.startswith("_")}


def normal(*shape: int, seed: int = 0) -> Array:
    """Reproducible float32 data."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def to_ir(model: str | onnx.ModelProto | ir.Model) -> ir.Model:
    """An ONNX model from its text form, a proto, or as it is, with all shapes inferred."""
    if isinstance(model, str):
        model = onnx.parser.parse_model(model)
    if isinstance(model, onnx.ModelProto):
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model)
        return ir.serde.deserialize_model(model)
    return model


def node_model(
    text: str,
    inputs: str,
    *,
    constants: dict[str, Array] | None = None,
    opset: int = 18,
    outputs: str = "y",
) -> ir.Model:
    """A model from the body of a graph in ONNX's text form, e.g. `y = Relu(x)`, `float[1, 3, 5, 7] x`.

    `constants` become initializers.  The shapes and types of `outputs` are inferred.
    """
    listed = ", ".join(f"float {name}" for name in outputs.split())
    graph = onnx.parser.parse_graph(f"g ({inputs}) => ({listed}) {{ {text} }}")
    for value in graph.output:
        value.ClearField("type")  # to be inferred
    for name, array in (constants or {}).items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return to_ir(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10))


def export(module: torch.nn.Module, *shapes: Sequence[int]) -> ir.Model:
    """A torch module as the frontend sees it: exported at opset 18 for inputs of `shapes`."""
    arguments = tuple(torch.zeros(*shape) for shape in shapes)
    program = torch.onnx.export(module.eval(), arguments, dynamo=True, optimize=True, opset_version=18, verbose=False)
    assert program is not None
    return program.model


def draw(value: ir.Value, rng: np.random.Generator) -> Array:
    """Random data for a graph input, of both signs."""
    assert value.shape is not None
    assert value.dtype is not None
    shape = tuple(int(size) for size in value.shape.numpy())
    dtype = value.dtype.numpy()
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    if np.issubdtype(dtype, np.integer):
        return rng.integers(-5, 6, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def to_file(array: Array) -> Array:
    """An ONNX input as the file takes it: NHWC where 4-D, int64 as int32."""
    array = array.astype({"int64": "int32", "float64": "float32"}.get(array.dtype.name, array.dtype.name))
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def from_file(array: Array) -> Array:
    """An output of the file in ONNX order."""
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def assert_same(
    model: str | onnx.ModelProto | ir.Model,
    seed: int = 0,
    *,
    inputs: Sequence[Array] | None = None,
    expected: Sequence[Array] | None = None,
    tolerance: float = TOLERANCE,
) -> bytes:
    """Fail unless the emitted file yields ONNX Runtime's outputs (or `expected`) in bnncc's interpreter, and in
    LCE's, without and with XNNPACK; where there is none, in LiteRT with the delegate.

    Returns the file.
    """
    model = to_ir(model)
    rng = np.random.default_rng(seed)
    arrays = list(inputs) if inputs is not None else [draw(value, rng) for value in model.graph.inputs]
    if expected is None:
        expected = OrtRunner(model).run(arrays)
    content = emit(model)
    runners: dict[str, FileRunner | InterpreterRunner] = {"bnncc's interpreter": InterpreterRunner(content)}
    if Runtime.LCE in RUNTIMES:
        runners |= {"LCE": LceRunner(content), "LCE with XNNPACK": LceRunner(content, fastest=True)}
    else:
        runners["LiteRT with the delegate"] = Runtime.LITERT.load(content)
    for name, runner in runners.items():
        outputs = runner.run([to_file(array) for array in arrays])
        for wanted, given in zip(expected, outputs, strict=True):
            got = from_file(given)
            assert got.shape == wanted.shape
            if wanted.dtype.kind == "f":
                scale = float(np.abs(wanted).max(initial=0)) or 1.0
                error = float(np.abs(got - wanted).max(initial=0))
                assert error <= tolerance * scale, f"differs by {error:.2e} at scale {scale:.2e} in {name}"
            else:
                np.testing.assert_array_equal(got, wanted.astype(got.dtype))
    return content


def operators(content: bytes) -> Counter[str]:
    """How often the file uses each built-in operator."""
    model = unpack(content)
    codes = [_OPERATOR_NAMES[code.builtinCode] for code in model.operatorCodes]
    return Counter(codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators)
