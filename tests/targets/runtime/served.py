"""Runs files with the delegate on another machine, for a program that asks over standard input (`messages.serve`).

python served.py LIBRARY [KERNEL]
"""

import sys
from collections.abc import Sequence

import messages

try:
    from ai_edge_litert.interpreter import Interpreter, load_delegate
except ImportError:
    from tflite_runtime.interpreter import Interpreter, load_delegate

LIBRARY, KERNEL = sys.argv[1], sys.argv[2:]


class File:
    """A .tflite file with a delegate of its own, on one thread."""

    def __init__(self, content: bytes) -> None:
        delegate = load_delegate(LIBRARY, {"kernel": KERNEL[0]} if KERNEL else {})
        self._file = Interpreter(model_content=content, num_threads=1, experimental_delegates=[delegate])
        self._file.allocate_tensors()
        self._inputs, self._outputs = self._file.get_input_details(), self._file.get_output_details()
        self.input_shapes = [tuple(detail["shape"]) for detail in self._inputs]
        self.output_shapes = [tuple(detail["shape"]) for detail in self._outputs]

    def run(self, inputs: Sequence[messages.Array]) -> list[messages.Array]:
        for detail, array in zip(self._inputs, inputs, strict=True):
            self._file.set_tensor(detail["index"], array)
        self._file.invoke()
        return [self._file.get_tensor(detail["index"]) for detail in self._outputs]


if __name__ == "__main__":
    messages.serve(File)
