#!/usr/bin/env bash
# A FULLY_CONNECTED with float32 input and int8 weights (a "hybrid" one): TensorFlow Lite 2.14 (tflite-runtime 2.14.0)
# takes one with a scale for each output channel, and yields the bias alone, without an error; with one scale for all it
# is right.  LiteRT (ai-edge-litert 2.3.0) is right with both.  The same for versions 3 and 9 of the operator.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tflite-runtime==2.14.0 ai-edge-litert==2.3.0 'numpy<2' flatbuffers==25.12.19
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import importlib
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

WEIGHTS, BIAS = np.array([[127, -64], [64, 127]], np.int8), np.array([1, 2], np.float32)
X = np.array([[1, 1]], np.float32)


def linear_file(operator_version, scales):
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.buffers, graph.tensors = [schema.BufferT()], []

    def tensor(name, shape, kind, data=None):
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type = name, shape, kind
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            model.buffers.append(buffer)
            entry.buffer = len(model.buffers) - 1
        graph.tensors.append(entry)
        return entry

    tensor("x", [1, 2], schema.TensorType.FLOAT32)
    weights = tensor("weights", [2, 2], schema.TensorType.INT8, WEIGHTS)
    weights.quantization = schema.QuantizationParametersT()
    weights.quantization.scale = np.array(scales, np.float32)
    weights.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor("bias", [2], schema.TensorType.FLOAT32, BIAS)
    tensor("y", [1, 2], schema.TensorType.FLOAT32)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = operator_version
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [3]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(package, content):
    interpreter = importlib.import_module(f"{package}.interpreter").Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, X)
    interpreter.invoke()
    return interpreter.get_tensor(3)[0]


failed = False
for package in ("tflite_runtime", "ai_edge_litert"):
    for scales in ([0.01, 0.1], [0.01]):
        for operator_version in (3, 9):
            y = run(package, linear_file(operator_version, scales))
            right = WEIGHTS.astype(np.float32) @ X[0] * np.array(scales, np.float32) + BIAS
            expected = BIAS if package == "tflite_runtime" and len(scales) > 1 else right
            seen = np.allclose(y, expected, rtol=0.02)
            failed |= not seen
            what = "the bias alone" if expected is BIAS else "W·x + b"
            print(f"{package} {version(package.replace('_', '-'))}, operator version {operator_version}, "
                  f"{len(scales)} scales: {y}, {what if seen else 'CHANGED'}; W·x + b is {right}")
raise SystemExit(failed)
PYTHON
