#!/usr/bin/env bash
# ai-edge-litert 2.3.0: a signature of a subgraph that an IF calls runs where its runner is the first thing that is done,
# and not where allocate_tensors() was called before: "Cannot set tensor: Tensor is unallocated.  Try calling
# allocate_tensors() first" - of a file of stock operators, which the runner of the other signature runs either way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ai-edge-litert==2.3.0 'numpy<2' flatbuffers==25.12.19
cat >"$folder/show.py" <<'PYTHON'
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

SHAPE = [1, 4]
X = np.arange(4, dtype=np.float32).reshape(SHAPE)


def graph_of(tensors, inputs, operator):
    """The operator writes the last tensor."""
    graph = schema.SubGraphT()
    graph.tensors = []
    for name, shape, kind in tensors:
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type = name, shape, kind
        graph.tensors.append(entry)
    operator.inputs, operator.outputs = inputs, [len(tensors) - 1]
    graph.inputs, graph.outputs, graph.operators = inputs, operator.outputs, [operator]
    return graph


def code_of(builtin):
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    return code


def signature_of(key, index, graph):
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, index
    signature.inputs, signature.outputs = [], []
    for numbers, maps in ((graph.inputs, signature.inputs), (graph.outputs, signature.outputs)):
        for number in numbers:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.tensors[number].name, number
            maps.append(entry)
    return signature


def content():
    """choose(chosen, x) is an IF of neg(x) and abs(x); all three have a signature."""
    kinds = schema.TensorType
    x, y = ("x", SHAPE, kinds.FLOAT32), ("y", SHAPE, kinds.FLOAT32)
    choice, neg, absolute = schema.OperatorT(), schema.OperatorT(), schema.OperatorT()
    choice.opcodeIndex, neg.opcodeIndex, absolute.opcodeIndex = 0, 1, 2
    choice.builtinOptionsType, choice.builtinOptions = schema.BuiltinOptions.IfOptions, schema.IfOptionsT()
    choice.builtinOptions.thenSubgraphIndex, choice.builtinOptions.elseSubgraphIndex = 1, 2
    model = schema.ModelT()
    model.version, model.buffers = 3, [schema.BufferT()]
    operators = schema.BuiltinOperator
    model.operatorCodes = [code_of(one) for one in (operators.IF, operators.NEG, operators.ABS)]
    model.subgraphs = [
        graph_of([("chosen", [1], kinds.BOOL), x, y], [0, 1], choice),
        graph_of([x, y], [0], neg),
        graph_of([x, y], [0], absolute),
    ]
    keys = ("choose", "neg", "abs")
    model.signatureDefs = [signature_of(key, i, model.subgraphs[i]) for i, key in enumerate(keys)]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def outcome(allocate):
    interpreter = Interpreter(model_content=content())
    if allocate:
        interpreter.allocate_tensors()
    chosen = interpreter.get_signature_runner("choose")(chosen=np.array([True]), x=X)["y"]
    assert np.array_equal(chosen, -X)
    interpreter = Interpreter(model_content=content())
    if allocate:
        interpreter.allocate_tensors()
    try:
        return "runs" if np.array_equal(interpreter.get_signature_runner("neg")(x=X)["y"], -X) else "is wrong"
    except ValueError as error:
        return str(error)


found = {allocate: outcome(allocate) for allocate in (False, True)}
print("ai-edge-litert", version("ai-edge-litert"))
print("the runner alone:             ", found[False])
print("after allocate_tensors():     ", found[True])
assert found[False] == "runs"
assert "Tensor is unallocated" in found[True]
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
