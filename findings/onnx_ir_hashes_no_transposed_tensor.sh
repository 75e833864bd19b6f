#!/usr/bin/env bash
# onnx_ir (1.1.0) takes a transposed NumPy array as a tensor, serialises it and infers with it, and its pass
# DeduplicateHashedInitializersPass then raises "ndarray is not C-contiguous" on the model; the pass beside it that
# compares bytes, DeduplicateInitializersPass, takes the same model.  Weights are often transposed on the way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx-ir==1.1.0 'numpy<2'
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import DeduplicateHashedInitializersPass, DeduplicateInitializersPass


def model():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    weights = [ir.val(name, const_value=ir.tensor(array, name=name)) for name in ("a", "b")]
    node = ir.node("Add", weights)
    node.outputs[0].name = "y"
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=weights, opset_imports={"": 18})
    return ir.Model(graph, ir_version=10)


def outcome(make):
    try:
        changed = model()
        make()(changed)
    except ValueError as error:
        return str(error)
    return f"{len(changed.graph.initializers)} initializer left"


ir.serde.serialize_model(model())
by_hash, by_bytes = outcome(DeduplicateHashedInitializersPass), outcome(DeduplicateInitializersPass)
print(f"onnx_ir {version('onnx-ir')}, two equal transposed initializers: by hash: {by_hash}; by bytes: {by_bytes}")
raise SystemExit((by_hash, by_bytes) != ("ndarray is not C-contiguous", "1 initializer left"))
PYTHON
