#!/usr/bin/env bash
# LiteRT 1.1.0 (ai-edge-litert 1.1.0, the first with wheels for 64-bit ARM) takes no `num_threads`: its Interpreter sets
# the number on an interpreter that it has not made yet, and raises AttributeError.  1.1.2 takes it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ai-edge-litert==2.3.0 'numpy<2' flatbuffers==25.12.19
# A file that adds x to itself.
"$folder/venv/bin/python" - "$folder/add.tflite" 2>/dev/null <<'PYTHON'
import sys

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

graph = schema.SubGraphT()
graph.tensors = [schema.TensorT(), schema.TensorT()]
for name, entry in zip("xy", graph.tensors):
    entry.name, entry.shape, entry.type, entry.buffer = name, [3], schema.TensorType.FLOAT32, 0
operator = schema.OperatorT()
operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 0], [1]
operator.builtinOptions, operator.builtinOptionsType = schema.AddOptionsT(), schema.BuiltinOptions.AddOptions
graph.operators, graph.inputs, graph.outputs = [operator], [0], [1]
code = schema.OperatorCodeT()
code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
code.version = 1
model = schema.ModelT()
model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
builder = flatbuffers.Builder(1024)
builder.Finish(model.Pack(builder), b"TFL3")
with open(sys.argv[1], "wb") as file:
    file.write(builder.Output())
PYTHON
for version in 1.1.0 1.1.2; do
    "$folder/venv/bin/pip" install --quiet "ai-edge-litert==$version" 'numpy<2'
    "$folder/venv/bin/python" - "$folder/add.tflite" 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version

from ai_edge_litert.interpreter import Interpreter

found = version("ai-edge-litert")
Interpreter(model_path=sys.argv[1]).allocate_tensors()
try:
    Interpreter(model_path=sys.argv[1], num_threads=2).allocate_tensors()
    said = "takes num_threads=2"
except AttributeError as error:
    said = f"with num_threads=2: AttributeError: {error}"
print(f"ai-edge-litert {found} {said}")
sys.exit(("AttributeError" in said) != (found == "1.1.0"))
PYTHON
done
