#!/usr/bin/env bash
# torch.onnx.export(dynamo=True) of torch 2.13.0 hands the equation of torch.einsum on as it is.  PyTorch's ellipses may
# stand for different numbers of axes, as in "...d, ...ed -> ...e" of x [2, 3, 4] and w [5, 4], which is how einops writes
# a Linear; ONNX's stand for one number, and ONNX Runtime does not load the file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.0 onnxscript==0.7.2 onnxruntime==1.31.1 numpy==1.26.4
cd "$folder"
ORT_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import onnxruntime
import torch


class Product(torch.nn.Module):
    def __init__(self, equation):
        super().__init__()
        self.equation, self.weight = equation, torch.nn.Parameter(torch.ones(5, 4))

    def forward(self, x):
        return torch.einsum(self.equation, x, self.weight)


x = torch.ones(2, 3, 4)
print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
for equation, loads in (("...d,...ed->...e", False), ("...d,ed->...e", True), ("abd,ed->abe", True)):
    network = Product(equation)
    torch.onnx.export(network, (x,), "net.onnx", dynamo=True, opset_version=18, verbose=False)
    try:
        session = onnxruntime.InferenceSession("net.onnx")
        outcome = str(list(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0].shape))
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        outcome = str(error).partition("] ")[2].strip()[-60:]
    print(f"{equation}: PyTorch {list(network(x).shape)}, the file: {outcome}")
    assert ("ncompatible" not in outcome) == loads, "it is another now"
PYTHON
