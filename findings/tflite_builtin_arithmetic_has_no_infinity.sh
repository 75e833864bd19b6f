#!/usr/bin/env bash
# TensorFlow Lite's built-in kernels of ADD, SUB, MUL and DIV (LiteRT, ai-edge-litert 2.3.0) yield the largest float32,
# 3.4028235e38, where the result is infinite, although the operator has no activation: inf + 1 is 3.4028235e38, and so is
# 1 / 0.  Its default kernels of the same operators, XNNPACK's, yield infinity.  So the same file has another value with
# the delegate switched off, and an |x| > 3.4028235e38 behind it, which is how isinf is written, another truth.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ai-edge-litert==2.3.0 'numpy<2' flatbuffers==25.12.19
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

LARGEST = np.finfo(np.float32).max
CASES = {"ADD": (np.inf, 1.0), "SUB": (-np.inf, 1.0), "MUL": (np.inf, 2.0), "DIV": (1.0, 0.0)}


def tensor(name):
    entry = schema.TensorT()
    entry.name, entry.shape, entry.type, entry.buffer = name, [1, 4], schema.TensorType.FLOAT32, 0
    return entry


def file_of(name):
    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    operator.builtinOptions = getattr(schema, f"{name.capitalize()}OptionsT")()
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name.capitalize()}Options")
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.operators = [tensor("a"), tensor("b"), tensor("y")], [operator]
    graph.inputs, graph.outputs = [0, 1], [2]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(name, resolver):
    interpreter = Interpreter(model_content=file_of(name), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for index, number in enumerate(CASES[name]):
        interpreter.set_tensor(index, np.full((1, 4), number, np.float32))
    interpreter.invoke()
    return interpreter.get_tensor(2)[0, 0]


changed = False
for name, (a, b) in CASES.items():
    builtin = run(name, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    default = run(name, OpResolverType.AUTO)
    seen = abs(builtin) == LARGEST and np.isinf(default)
    changed |= not seen
    print(f"LiteRT {version('ai-edge-litert')}: {name}({a}, {b}) is {builtin} by the built-in kernel, {default} by XNNPACK"
          f"{'' if seen else ': CHANGED'}")
raise SystemExit(changed)
PYTHON
