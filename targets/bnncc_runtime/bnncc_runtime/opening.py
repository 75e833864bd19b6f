"""Which interpreter runs a file: TensorFlow Lite's with the delegate, or bnncc's own where that is not installed.

Both compute the same binary layers with the same kernels; TensorFlow Lite's float operators are faster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bnncc_runtime.interpreter import InterpreterRunner, load_interpreter
from bnncc_runtime.library import library_path, load_delegate, tensorflow_lite

CHOICES = ("auto", "litert", "bnncc")


def open_file(content: bytes, threads: int, choice: str = "auto") -> Any:
    """An interpreter that has loaded the file, used like TensorFlow Lite's.

    RuntimeError or ValueError where it does not take the file; OSError or ImportError where it is not there.
    """
    module = tensorflow_lite()
    if choice == "bnncc" or (choice == "auto" and module is None):
        return OwnInterpreter(content, threads)
    delegate = load_delegate(threads)  # ImportError where there is no module
    interpreter = module.Interpreter(  # type: ignore[union-attr]
        model_content=content, num_threads=threads, experimental_delegates=[delegate]
    )
    interpreter.allocate_tensors()
    return interpreter


class OwnInterpreter:
    """bnncc's interpreter with the methods of TensorFlow Lite's.  Tensors are numbered: inputs, then outputs."""

    def __init__(self, content: bytes, threads: int) -> None:
        self._runner = InterpreterRunner(load_interpreter(library_path()), content, threads)
        self._tensors = [*self._runner.inputs, *self._runner.outputs]
        self._quantization = [*self._runner.input_quantization, *self._runner.output_quantization]

    def get_input_details(self) -> list[dict[str, Any]]:
        """One dictionary for each input: its number (index), shape, type and quantization (scale, zero point)."""
        return self._details(range(len(self._runner.inputs)))

    def get_output_details(self) -> list[dict[str, Any]]:
        """The same for each output."""
        return self._details(range(len(self._runner.inputs), len(self._tensors)))

    def _details(self, numbers: range) -> list[dict[str, Any]]:
        return [
            {
                "index": number,
                "shape": np.array(self._tensors[number].shape),
                "dtype": self._tensors[number].dtype,
                "quantization": self._quantization[number],
            }
            for number in numbers
        ]

    def set_tensor(self, index: int, value: npt.NDArray[Any]) -> None:
        """Give it an input.  ValueError where it does not fit."""
        if (value.shape, value.dtype) != (self._tensors[index].shape, self._tensors[index].dtype):
            raise ValueError(f"the input is {self._tensors[index].dtype} {self._tensors[index].shape}")
        self._tensors[index][...] = value

    def get_tensor(self, index: int) -> npt.NDArray[Any]:
        """A copy of an output."""
        return self._tensors[index].copy()

    def invoke(self) -> None:
        """Run the file."""
        self._runner.invoke()
