"""LCE 0.16 reads freed memory for some numbers of tensors in a file that ends on an LceBconv2d (writer._end_safely)."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import numpy as np, onnx, onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from bnncc.ir import ops
from bnncc.inference.runners import LceRunner
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.writer import pack, unpack

CONVOLUTIONS = 7
lines = ["s = bnncc.Sign (x)"] + [
    f"y{i} = bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = 0.0>"
    f" (s, w, m, b)" for i in range(CONVOLUTIONS)
]
outputs = ", ".join(f"float[1, 8, 6, 6] y{i}" for i in range(CONVOLUTIONS))
body = chr(10).join(lines)
imports = '<ir_version: 9, opset_import: ["" : 18, "bnncc" : 1]>'
text = f'{imports} g (float[1, 32, 6, 6] x) => ({outputs}) {{ {body} }}'
proto = onnx.parser.parse_model(text)
generator = np.random.default_rng(0)
for name, array in {
    "w": np.where(generator.random((8, 32, 3, 3)) < 0.5, -1, 1), "m": generator.random(8), "b": generator.random(8)
}.items():
    proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
model = ir.serde.deserialize_model(proto)
ops.register(model)
for value, array in [(v, v.const_value) for v in model.graph.initializers.values()]:
    value.shape, value.type = array.shape, ir.TensorType(array.dtype)
for node in model.graph:
    channels = 32 if node.op_type == "Sign" else 8
    node.outputs[0].shape, node.outputs[0].type = ir.Shape([1, channels, 6, 6]), ir.TensorType(ir.DataType.FLOAT)
content = emit(model)
x = generator.standard_normal((1, 6, 6, 32)).astype(np.float32)
reference = LceRunner(content).run([x])
for count in range(70, 140):
    tree = unpack(content)
    tensors = tree.subgraphs[0].tensors
    while len(tensors) < count:
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type, entry.buffer = f"unread {len(tensors)}", [1], 0, 0
        tensors.append(entry)
    for found, expected in zip(LceRunner(pack(tree)).run([x]), reference, strict=True):
        assert np.array_equal(found, expected), count
print("done")
"""


def test_no_number_of_tensors_crashes_the_interpreter() -> None:
    root = Path(__file__).parents[3]
    # glibc fills freed memory with this byte, so that reading it cannot go well by chance.
    perturbed = {"MALLOC_PERTURB_": "165", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**os.environ, "PYTHONPATH": str(root), **perturbed}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip().endswith("done")
