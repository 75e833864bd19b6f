#!/usr/bin/env bash
# ONNX Runtime 1.23.2, the last for Python 3.10, refuses a model-local function that pads by a Constant of integers: its
# inference of shapes, ONNX's own of that time (1.19.1), takes `Constant <value_ints>` inside a function for a tensor
# without axes ("'pads' input must be a 1D"), be the integers an attribute's or written there.  ONNX's checker and its
# reference evaluator take the same model, and so does ONNX Runtime behind an Identity, from a Constant that holds a
# tensor, and outside of a function.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.19.1 onnxruntime==1.23.2 numpy==1.26.4
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx.reference import ReferenceEvaluator

X, Y = "float[1, 2, 4, 4] x", "float[1, 2, 6, 6] y"
PADS = "[0, 0, 1, 1, 0, 0, 1, 1]"
# (how the pads are made, in a function?, does ONNX Runtime take it?)
CASES = {
    "a function, Constant of its attribute": ("pads = Constant <value_ints: ints = @p> ()", True, False),
    "a function, Constant of eight integers": (f"pads = Constant <value_ints = {PADS}> ()", True, False),
    "a function, Constant behind an Identity": ("k = Constant <value_ints: ints = @p> () pads = Identity (k)", True, True),
    "a function, Constant of a tensor": ("pads = Constant <value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}> ()", True, True),
    "no function": (f"pads = Constant <value_ints = {PADS}> ()", False, True),
}
x = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
expected = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
failed = False
print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__)
for name, (pads, is_function, is_taken) in CASES.items():
    body = f"{pads} y = Pad (x, pads)"
    head = '<ir_version: 10, opset_import: ["": 20, "own": 1]>'
    text = f"{head} g ({X}) => ({Y}) {{ {body} }}"
    if is_function:
        text = f"{head} g ({X}) => ({Y}) {{ y = own.Padded <p = {PADS}> (x) }}"
        text += f'<domain: "own", opset_import: ["": 20]> Padded <p> (x) => (y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    assert np.array_equal(ReferenceEvaluator(model).run(None, {"x": x})[0], expected)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found = "takes it" if np.array_equal(session.run(None, {"x": x})[0], expected) else "computes something else"
    except Exception as error:
        found = "refuses it: " + str(error).split("(op_type:")[-1].strip()
    print(f"{name}: {found}")
    failed |= (found == "takes it") != is_taken
raise SystemExit(failed)
PYTHON
