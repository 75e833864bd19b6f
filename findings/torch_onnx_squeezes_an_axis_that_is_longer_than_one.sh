#!/usr/bin/env bash
# torch.onnx.export(dynamo=True) of torch 2.13.0 writes x.squeeze(1) as a Squeeze of axis 1 whatever that axis's size is.
# PyTorch leaves an axis that is longer than 1 as it is; ONNX forbids to squeeze it, and ONNX Runtime does not load the
# file, although the exporter knew the size.  The older exporter (dynamo=False) writes none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.0 onnxscript==0.7.2 onnxruntime==1.31.1 numpy==1.26.4
cd "$folder"
ORT_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import onnxruntime
import torch


class Squeeze(torch.nn.Module):
    def forward(self, x):
        return x.squeeze(1) + 1


x = torch.zeros(2, 3, 4)
print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
print("PyTorch:", list(Squeeze()(x).shape))
for name, dynamo in (("torch.export", True), ("TorchScript", False)):
    torch.onnx.export(Squeeze(), (x,), f"{name}.onnx", dynamo=dynamo, opset_version=18, verbose=False)
    try:
        session = onnxruntime.InferenceSession(f"{name}.onnx")
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        outcome = f"{list(y.shape)}"
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        outcome = str(error).partition(") ")[2]
    print(f"exported by {name}: {outcome}")
    assert ("must be 1" in outcome) == dynamo, "it is another now"
PYTHON
