#!/usr/bin/env bash
# XNNPACK in LiteRT up to 2.1.6 (ai-edge-litert) computes a CONV_2D with SAME padding wrongly, without an error, where one
# axis needs padding and the other ends on positions that no window reads: a 3x1 kernel at strides 1x2 on an 8x8 map.
# The built-in kernel of the same package is right, and so is XNNPACK in 2.3.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 2.1.6 2.3.0; do
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


x = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32)
w = np.random.default_rng(1).standard_normal((4, 3, 1, 3)).astype(np.float32)
padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (0, 0), (0, 0)))[:, :, ::2]
wanted = sum(np.einsum("nhwc,oc->nhwo", padded[:, tap : tap + 8], w[:, tap, 0]) for tap in range(3))
options = schema.Conv2DOptionsT()
options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 2
options.dilationHFactor = options.dilationWFactor = 1
kind = schema.TensorType.FLOAT32
tensors = [tensor("x", x.shape, kind), tensor("w", w.shape, kind, 1), tensor("b", [4], kind, 2),
           tensor("y", wanted.shape, kind)]
content = file_of([code_of("CONV_2D", 1)], tensors, [operator(0, [0, 1, 2], [3], options)], 3, [w, np.zeros(4, np.float32)])
errors = [float(np.abs(run(content, x, xnnpack) - wanted).max()) for xnnpack in (False, True)]
print(f"ai-edge-litert {version('ai-edge-litert')}: largest error {errors[0]:.1e} built-in, {errors[1]:.1e} XNNPACK")
raise SystemExit([error < 1e-4 for error in errors] != [True, sys.argv[1] == "right"])
PYTHON
"$folder/2.1.6/bin/python" "$folder/show.py" wrong 2>/dev/null
"$folder/2.3.0/bin/python" "$folder/show.py" right 2>/dev/null
