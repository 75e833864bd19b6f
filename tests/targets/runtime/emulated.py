"""Runs files with the delegate on another machine: NumPy and a TensorFlow Lite interpreter are all it needs.

    python emulated.py LIBRARY CASES [KERNEL]

CASES/N.tflite and CASES/N.x.npy, N = 0, 1, …: the file and its input.  Writes the output to CASES/N.y.npy.
"""

import sys
from pathlib import Path

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, load_delegate
except ImportError:
    from tflite_runtime.interpreter import Interpreter, load_delegate

library, cases = sys.argv[1], Path(sys.argv[2])
delegate = load_delegate(library, {"kernel": sys.argv[3]} if len(sys.argv) > 3 else {})
index = 0
while (cases / f"{index}.tflite").is_file():
    interpreter = Interpreter(
        model_content=(cases / f"{index}.tflite").read_bytes(),
        num_threads=1 + index % 2,
        experimental_delegates=[delegate],
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(cases / f"{index}.x.npy"))
    interpreter.invoke()
    np.save(cases / f"{index}.y.npy", interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    index += 1
print(index)
