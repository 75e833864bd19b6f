#!/usr/bin/env bash
# ONNX's reference evaluator (onnx 1.23.0), of which ONNX says that it defines the operators, yields another shape than
# ONNX's own text, its own shape inference, ONNX Runtime (1.31.1) and PyTorch: GlobalMaxPool of [N, C, L] takes the
# maximum over the channels too, and MaxPool with ceil_mode yields a larger map.  Neither is an error, so what is
# tested against it is tested against something else.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.0 onnxruntime==1.31.1 numpy==1.26.4
ORT_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

CASES = {
    "GlobalMaxPool of [4, 5, 6]": ("y = GlobalMaxPool (x)", (4, 5, 6), (4, 1), (4, 5, 1)),
    "MaxPool 3x3 of [1, 4, 5, 6], ceil_mode": (
        "y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], ceil_mode = 1> (x)",
        (1, 4, 5, 6), (1, 4, 7, 8), (1, 4, 5, 6),
    ),
}
failed = False
print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
for name, (body, shape, seen, right) in CASES.items():
    graph = onnx.parser.parse_graph(f"g (float[{', '.join(map(str, shape))}] x) => (float y) {{ {body} }}")
    graph.output[0].ClearField("type")
    imports = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    inferred = tuple(size.dim_value for size in model.graph.output[0].type.tensor_type.shape.dim)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    reference = ReferenceEvaluator(model).run(None, {"x": x})[0].shape
    runtime = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0].shape
    print(f"{name}: the reference yields {reference}, ONNX's inference says {inferred}, ONNX Runtime yields {runtime}")
    failed |= (reference, inferred, runtime) != (seen, right, right)
raise SystemExit(failed)
PYTHON
