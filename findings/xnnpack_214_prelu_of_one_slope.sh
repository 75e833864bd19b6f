#!/usr/bin/env bash
# A PRELU whose slope is one number, of shape [1,1,1], for a map of several channels: XNNPACK in TensorFlow Lite 2.14
# (tflite-runtime 2.14.0) multiplies the first channel's negative elements by it, and here makes 0 of the others', without
# an error.  Its built-in kernel, and both of LiteRT (ai-edge-litert 2.3.0), multiply all.
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

SLOPE = np.full((1, 1, 1), 0.5, np.float32)
X = -np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)


def tensor(name, shape, buffer=0):
    entry = schema.TensorT()
    entry.name, entry.shape, entry.type, entry.buffer = name, list(shape), schema.TensorType.FLOAT32, buffer
    return entry


def prelu_file():
    slope = schema.BufferT()
    slope.data = np.frombuffer(SLOPE.tobytes(), np.uint8)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.PRELU
    code.version = 1
    graph = schema.SubGraphT()
    graph.tensors = [tensor("x", X.shape), tensor("slope", SLOPE.shape, 1), tensor("y", X.shape)]
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), slope]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(package, is_builtin):
    module = importlib.import_module(f"{package}.interpreter")
    kernels = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if is_builtin else module.OpResolverType.AUTO
    interpreter = module.Interpreter(model_content=prelu_file(), experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, X)
    interpreter.invoke()
    return interpreter.get_tensor(2).ravel()


failed = False
for package, is_builtin, right in (
    ("tflite_runtime", False, False), ("tflite_runtime", True, True), ("ai_edge_litert", False, True),
    ("ai_edge_litert", True, True),
):
    y = run(package, is_builtin)
    seen = np.array_equal(y, X.ravel() * 0.5) == right
    failed |= not seen
    print(f"{package} {version(package.replace('_', '-'))}, {'built-in' if is_builtin else 'XNNPACK'}: half of "
          f"{X.ravel()} is {y}{'' if seen else ': CHANGED'}")
raise SystemExit(failed)
PYTHON
