#!/usr/bin/env bash
# torch.onnx.export(dynamo=True) of torch 2.13.0 with onnxscript 0.7.2 reads and parses the source of all functions of
# onnxscript's torchlib, some 500, for every export, whatever the module holds, and again for the next one: nothing is
# kept in the process.  For a small network that is more than half of the time that an export takes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.0 onnxscript==0.7.2 numpy==1.26.4
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import onnxscript
import torch
from onnxscript._internal import ast_utils, values

count = 0
read = ast_utils.get_src_and_ast


def counted(function):
    global count
    count += 1
    return read(function)


ast_utils.get_src_and_ast = counted
print("torch", torch.__version__, "onnxscript", onnxscript.__version__)
for number in (1, 2, 3):
    count = 0
    torch.onnx.export(torch.nn.ReLU(), (torch.zeros(1, 2),), dynamo=True, verbose=False)
    print(f"export {number} of a ReLU: {count} functions read and parsed")
    assert count > 400, "their source is read once now"
PYTHON
