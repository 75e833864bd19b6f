#!/usr/bin/env bash
# ONNX's text says of Resize's align_corners: x_original = x_resized * (length_original - 1) / (length_resized - 1), of
# the resized tensor's length, which is whole.  The data of ONNX's own node tests (onnx 1.23.0) were computed with
# scale * length instead, which is no whole number: 2 * 0.6 = 1.2 and 4 * 0.8 = 3.2.  ONNX Runtime (1.31.1) takes the
# whole length, as PyTorch's interpolate(align_corners=True) does: the last output is the last input.  So a backend that
# computes what the text says fails ONNX's suite, and one that passes it computes something else than its exporter.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.0 onnxruntime==1.31.1 numpy==1.26.4
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import contextlib
import io
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx.backend.test.case.node import collect_testcases

warnings.simplefilter("ignore")
with contextlib.redirect_stdout(io.StringIO()):
    cases = {case.name: case for case in collect_testcases("Resize")}
print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
for mode in ("linear", "cubic"):
    case = cases[f"test_resize_downsample_scales_{mode}_align_corners"]
    inputs, (data,) = case.data_sets[0]
    session = onnxruntime.InferenceSession(case.model.SerializeToString())
    names = [entry.name for entry in session.get_inputs()]
    (computed,) = session.run(None, dict(zip(names, inputs)))
    rows = inputs[0][0, 0]
    corners = rows[0, 0], rows[0 if computed.shape[2] == 1 else -1, -1]  # one row is left of two: the first
    print(f"{mode}: corners of the input {corners}, of ONNX's data {data.flat[0]:.6g}, {data.flat[-1]:.6g},",
          f"of ONNX Runtime's result {computed.flat[0]:.6g}, {computed.flat[-1]:.6g}")
    assert np.allclose([computed.flat[0], computed.flat[-1]], corners, rtol=1e-5), "ONNX Runtime aligns them no longer"
    assert abs(data.flat[-1] - corners[1]) > 0.5, "ONNX's data are aligned now"
PYTHON
