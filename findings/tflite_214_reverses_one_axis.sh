#!/usr/bin/env bash
# TensorFlow Lite 2.14 (tflite-runtime 2.14.0) reverses only the first of several axes of a REVERSE_V2, without an error;
# LiteRT (ai-edge-litert 2.3.0) reverses all of them.  The schema's field is a vector of axes in both.
# 32-bit Raspberry Pi OS has no later runtime, and Android apps may still bring that one.
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

SHAPE, AXES = [1, 2, 3, 1], np.array([1, 2], np.int32)


def tensor(name, shape, kind, buffer=0):
    entry = schema.TensorT()
    entry.name, entry.shape, entry.type, entry.buffer = name, shape, kind, buffer
    return entry


def reverse_file():
    axes = schema.BufferT()
    axes.data = np.frombuffer(AXES.tobytes(), np.uint8)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    operator.builtinOptions = schema.ReverseV2OptionsT()
    operator.builtinOptionsType = schema.BuiltinOptions.ReverseV2Options
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.REVERSE_V2
    code.version = 1
    graph = schema.SubGraphT()
    float32, int32 = schema.TensorType.FLOAT32, schema.TensorType.INT32
    graph.tensors = [tensor("x", SHAPE, float32), tensor("axes", [2], int32, 1), tensor("y", SHAPE, float32)]
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), axes]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(package):
    interpreter = importlib.import_module(f"{package}.interpreter").Interpreter(model_content=reverse_file())
    interpreter.allocate_tensors()
    x = np.arange(6, dtype=np.float32).reshape(SHAPE)
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    return x, interpreter.get_tensor(2)


failed = False
for package, axes in (("tflite_runtime", (1,)), ("ai_edge_litert", (1, 2))):
    x, y = run(package)
    seen = np.array_equal(y, np.flip(x, axes))
    failed |= not seen
    print(f"{package} {version(package.replace('_', '-'))}: axes {AXES.tolist()} of {x.ravel()} give {y.ravel()}: "
          f"{'reverses ' + str(list(axes)) if seen else 'CHANGED'}")
raise SystemExit(failed)
PYTHON
