"""Runs files on a delegate that has a sanitizer in it: eight interpreters at once, with one delegate between them.

    python sanitized.py LIBRARY CASES THREADS [KERNEL]

CASES/N.tflite, CASES/N.x.npy and CASES/N.y.npy, N = 0, 1, …: the file, its input and its first output.  An error where
an output differs; what a sanitizer finds ends the program too.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate

INTERPRETERS = 8
RUNS = 2

library, cases, threads = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
delegate = load_delegate(library, {"threads": threads, **({"kernel": sys.argv[4]} if len(sys.argv) > 4 else {})})


def run(case: Path) -> None:
    """One interpreter's runs."""
    interpreter = Interpreter(model_content=case.read_bytes(), experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    wanted = np.load(case.with_suffix(".y.npy"))
    for _ in range(RUNS):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(case.with_suffix(".x.npy")))
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_array_equal(found, wanted)


with ThreadPoolExecutor(INTERPRETERS) as executor:
    for case in sorted(cases.glob("*.tflite")):
        list(executor.map(run, [case] * INTERPRETERS))
print(len(list(cases.glob("*.tflite"))))
