#!/usr/bin/env bash
# LiteRT 2.3.0 (ai-edge-litert) without XNNPACK, and so every program that registers the built-in operators alone, computes
# a CONV_2D in groups by its plain reference loops: a 3x3 convolution of 64 channels in 4 groups, with a quarter of the
# multiplications, takes several times as long as the whole one, which is a product of matrices.  Under XNNPACK, in the
# same package, the grouped one is faster, as it should be.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ai-edge-litert==2.3.0 'numpy<2' flatbuffers==25.12.19
cat >"$folder/show.py" <<'PYTHON'
import time
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


def least_seconds(groups, xnnpack):
    """Of 20 runs on one thread."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    content = convolution(groups)
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    x = np.random.default_rng(0).standard_normal((1, 28, 28, 64)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - begin)
    return min(times)


def convolution(groups):
    w = np.random.default_rng(1).standard_normal((64, 3, 3, 64 // groups)).astype(np.float32)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    kind = schema.TensorType.FLOAT32
    tensors = [tensor("x", (1, 28, 28, 64), kind), tensor("w", w.shape, kind, 1), tensor("b", [64], kind, 2),
               tensor("y", (1, 28, 28, 64), kind)]
    return file_of([code_of("CONV_2D", 1)], tensors, [operator(0, [0, 1, 2], [3], options)], 3, [w, np.zeros(64, np.float32)])


ratios = []
for name, xnnpack in (("built-in", False), ("XNNPACK", True)):
    whole, grouped = (least_seconds(groups, xnnpack) for groups in (1, 4))
    ratios.append(grouped / whole)
    print(f"ai-edge-litert {version('ai-edge-litert')}, {name}: {whole * 1e3:.2f} ms whole, {grouped * 1e3:.2f} ms in 4 groups")
raise SystemExit(not (ratios[0] > 2 and ratios[1] < 1))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>/dev/null
