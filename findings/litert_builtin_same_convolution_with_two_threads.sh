#!/usr/bin/env bash
# A CONV_2D of 2x2 taps with SAME padding on a map of 2x2 elements: the built-in kernels compute it with one thread, and
# with two take it for a product of matrices, without an error: the filter has the map's size, and half of the padding,
# rounded down, is 0.  tflite-runtime 2.14.0 and ai-edge-litert 2.3.0, without XNNPACK; with it they are right.
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

FILTER = np.arange(1, 5, dtype=np.float32).reshape(1, 2, 2, 1)
BIAS = np.zeros(1, np.float32)
X = np.array([1, 10, 100, 1000], np.float32).reshape(1, 2, 2, 1)
# Rows and columns of 0 come behind, as TensorFlow's SAME has them.
PADDED = np.pad(X[0, :, :, 0], ((0, 1), (0, 1)))
WANTED = np.array([[(PADDED[i : i + 2, j : j + 2] * FILTER[0, :, :, 0]).sum() for j in (0, 1)] for i in (0, 1)])


def tensor(name, shape, buffer=0):
    entry = schema.TensorT()
    entry.name, entry.shape, entry.type, entry.buffer = name, list(shape), schema.TensorType.FLOAT32, buffer
    return entry


def buffer(array=None):
    entry = schema.BufferT()
    if array is not None:
        entry.data = np.frombuffer(array.tobytes(), np.uint8)
    return entry


def convolution_file():
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptions, operator.builtinOptionsType = options, schema.BuiltinOptions.Conv2DOptions
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 1
    graph = schema.SubGraphT()
    graph.tensors = [tensor("x", X.shape), tensor("filter", FILTER.shape, 1), tensor("bias", BIAS.shape, 2),
                     tensor("y", X.shape)]
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [3]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [buffer(), buffer(FILTER), buffer(BIAS)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(package, threads, is_builtin):
    module = importlib.import_module(f"{package}.interpreter")
    kernels = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if is_builtin else module.OpResolverType.AUTO
    interpreter = module.Interpreter(
        model_content=convolution_file(), num_threads=threads, experimental_op_resolver_type=kernels
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, X)
    interpreter.invoke()
    return interpreter.get_tensor(3)[0, :, :, 0]


failed = False
for package in ("tflite_runtime", "ai_edge_litert"):
    for threads, is_builtin, right in ((1, True, True), (2, True, False), (2, False, True)):
        y = run(package, threads, is_builtin)
        seen = np.array_equal(y, WANTED) == right
        failed |= not seen
        print(f"{package} {version(package.replace('_', '-'))}, {'built-in' if is_builtin else 'XNNPACK'}, {threads} "
              f"thread(s): {y.ravel()}, {'right' if np.array_equal(y, WANTED) else f'not {WANTED.ravel()}'}"
              f"{'' if seen else ': CHANGED'}")
raise SystemExit(failed)
PYTHON
