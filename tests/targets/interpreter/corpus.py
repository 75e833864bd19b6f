"""Writes small .tflite files for the fuzzer of the interpreter to begin with: python -m … DIR."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator

from tests.targets.interpreter.test_operators import file, move_cases
from tests.targets.runtime.models import Conv, pool_file, quantize_file
from tests.targets.tflite.test_integers import BODIES, draw, in_int8, model_of


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        name: file(getattr(BuiltinOperator, name), case, version)[0]
        for name, (case, version) in move_cases(np.random.default_rng(0), "float32").items()
    }
    files["conv"] = Conv(1, (5, 5), 64, 8, (3, 3), (1, 1), (1, 1), 1, 0, 1, 0, "float32", 0).file()
    files["pool"] = pool_file((1, 5, 5, 2), (2, 2), (1, 1), 1)
    files["quantize"] = quantize_file((2, 40), "float32")
    for name in BODIES:  # layers in int8
        model = model_of(BODIES[name])
        files[f"int8 {name}"] = in_int8(model, draw(model.graph.inputs[0], np.random.default_rng(0)))
    for name, content in files.items():
        (folder / f"{name}.tflite").write_bytes(content)


if __name__ == "__main__":
    main()
