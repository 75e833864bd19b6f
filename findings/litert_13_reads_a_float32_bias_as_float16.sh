#!/usr/bin/env bash
# XNNPACK in LiteRT 1.2 and 1.3 (ai-edge-litert 1.3.0) takes a CONV_2D whose filter is float16 behind a DEQUANTIZE, as
# TensorFlow's float16 quantization writes it, and reads its bias as float16 too, though that is a float32 constant: the
# results are off by anything.  The built-in kernel of the same package is right, and so is XNNPACK in 1.4.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 1.3.0 1.4.0; do
    python3.11 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "ai-edge-litert==$version" 'numpy<2' flatbuffers==25.12.19
done
cat >"$folder/show.py" <<'PYTHON'
import sys
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def tensor(name, shape, kind, buffer=0):
    entry = schema.TensorT()
    entry.name, entry.shape, entry.type, entry.buffer = name, list(shape), kind, buffer
    return entry


def operator(code, inputs, outputs, options):
    entry = schema.OperatorT()
    entry.opcodeIndex, entry.inputs, entry.outputs = code, inputs, outputs
    entry.builtinOptions = options
    entry.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
    return entry


def code_of(name, version):
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = version
    return code


def file_of(codes, tensors, operators, output, arrays):
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, operators, [0], [output]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, codes, [graph]
    model.buffers = [schema.BufferT()]
    for array in arrays:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        model.buffers.append(buffer)
    builder = flatbuffers.Builder(65536)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(content, x, xnnpack):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


x = np.random.default_rng(0).standard_normal((1, 6, 5, 16)).astype(np.float32)
half = np.random.default_rng(1).standard_normal((32, 3, 3, 16)).astype(np.float16)
bias = np.random.default_rng(2).standard_normal(32).astype(np.float32)
padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
taps = [(row, column) for row in range(3) for column in range(3)]
wanted = bias + sum(np.einsum("nhwc,oc->nhwo", padded[:, r : r + 6, c : c + 5], half[:, r, c].astype(float)) for r, c in taps)
options = schema.Conv2DOptionsT()
options.padding = schema.Padding.SAME
options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
kind = schema.TensorType.FLOAT32
tensors = [tensor("x", x.shape, kind), tensor("half", half.shape, schema.TensorType.FLOAT16, 1), tensor("w", half.shape, kind),
           tensor("b", bias.shape, kind, 2), tensor("y", wanted.shape, kind)]
operators = [operator(0, [1], [2], schema.DequantizeOptionsT()), operator(1, [0, 2, 3], [4], options)]
content = file_of([code_of("DEQUANTIZE", 3), code_of("CONV_2D", 1)], tensors, operators, 4, [half, bias])
errors = [float(np.abs(run(content, x, xnnpack) - wanted).max()) for xnnpack in (False, True)]
print(f"ai-edge-litert {version('ai-edge-litert')}: largest error {errors[0]:.1e} built-in, {errors[1]:.1e} XNNPACK")
raise SystemExit([error < 1e-3 for error in errors] != [True, sys.argv[1] == "right"])
PYTHON
"$folder/1.3.0/bin/python" "$folder/show.py" wrong 2>/dev/null
"$folder/1.4.0/bin/python" "$folder/show.py" right 2>/dev/null
