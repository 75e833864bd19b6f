#!/usr/bin/env bash
# torch.onnx.export(dynamo=True) of torch 2.13.0 fails on torch.clamp(x, 0, 1.0), of a float x between an integer and a
# float: what promotes types makes a tensor of the integer alone, and no overload of clamp takes a tensor and a number.
# torch.clamp(x, 0, 1) and torch.clamp(x, 0.0, 1.0) are exported, and by the older exporter (dynamo=False) all three.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.0 onnxscript==0.7.2 numpy==1.26.4
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import torch


class Clamp(torch.nn.Module):
    def __init__(self, low, high):
        super().__init__()
        self.bounds = low, high

    def forward(self, x):
        return torch.clamp(x, *self.bounds)


print("torch", torch.__version__)
for bounds in ((0, 1), (0.0, 1.0), (0, 1.0)):
    for name, dynamo in (("torch.export", True), ("TorchScript", False)):
        try:
            torch.onnx.export(Clamp(*bounds), (torch.zeros(3),), "clamp.onnx", dynamo=dynamo, verbose=False)
            outcome = "exported"
        except Exception as error:
            outcome = f"raises {type(error).__name__}"
        print(f"clamp(x, {bounds[0]}, {bounds[1]}) by {name}: {outcome}")
        are_mixed = type(bounds[0]) is not type(bounds[1])
        assert (outcome != "exported") == (dynamo and are_mixed), "it is another now"
PYTHON
