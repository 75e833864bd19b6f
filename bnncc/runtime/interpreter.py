"""The interpreter of `targets/runtime/interpreter`, which is in the library of a wheel, from Python.

This file needs NumPy alone: the package `bnncc-runtime` has it as well.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# By the numbers of TfLiteType.
TYPES: dict[int, type[np.generic]] = {
    1: np.float32,
    2: np.int32,
    3: np.uint8,
    4: np.int64,
    6: np.bool_,
    7: np.int16,
    9: np.int8,
    10: np.float16,
}
ERROR_SIZE = 512


def load_interpreter(path: Path) -> ctypes.CDLL:
    """The library at `path`, its functions declared.

    OSError or AttributeError where it is none with an interpreter.
    """
    library = ctypes.CDLL(str(path))
    functions: dict[str, tuple[Any, list[Any]]] = {
        "bnncc_interpreter_create": (
            ctypes.c_void_p,
            [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t],
        ),
        "bnncc_interpreter_destroy": (None, [ctypes.c_void_p]),
        "bnncc_interpreter_inputs": (ctypes.c_int, [ctypes.c_void_p]),
        "bnncc_interpreter_outputs": (ctypes.c_int, [ctypes.c_void_p]),
        "bnncc_interpreter_input": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
        "bnncc_interpreter_output": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
        "bnncc_interpreter_invoke": (ctypes.c_int, [ctypes.c_void_p]),
        "bnncc_tensor_type": (ctypes.c_int, [ctypes.c_void_p]),
        "bnncc_tensor_shape": (ctypes.POINTER(ctypes.c_int), [ctypes.c_void_p]),
        "bnncc_tensor_data": (ctypes.c_void_p, [ctypes.c_void_p]),
        "bnncc_tensor_scale": (ctypes.c_float, [ctypes.c_void_p]),
        "bnncc_tensor_zero_point": (ctypes.c_int, [ctypes.c_void_p]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class InterpreterRunner:
    """A .tflite file in the interpreter; used like `bnncc.runtime.LitertRunner`."""

    def __init__(self, library: ctypes.CDLL, content: bytes, threads: int = 1) -> None:
        """library: of `load_interpreter`.  RuntimeError where the file cannot be prepared."""
        self._library = library
        self._content = ctypes.create_string_buffer(content, len(content))  # the interpreter reads it all the while
        self._error = ctypes.create_string_buffer(ERROR_SIZE)  # and writes this
        self._interpreter = library.bnncc_interpreter_create(
            self._content, len(content), threads, self._error, ERROR_SIZE
        )
        if not self._interpreter:
            raise RuntimeError(self._error.value.decode())
        self.inputs = self._tensors("input")
        self.outputs = self._tensors("output")
        # (scale, zero point) of each; the scale is 0 where the numbers stand for themselves.
        self.input_quantization = self._quantization("input")
        self.output_quantization = self._quantization("output")
        self.input_shapes = [array.shape for array in self.inputs]
        self.output_shapes = [array.shape for array in self.outputs]

    def __del__(self) -> None:
        if getattr(self, "_interpreter", None):
            self._library.bnncc_interpreter_destroy(self._interpreter)

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """One array for each input, in the file's shapes and types, in; the outputs out."""
        self.set_inputs(inputs)
        self.invoke()
        return [array.copy() for array in self.outputs]

    def set_inputs(self, inputs: Sequence[npt.NDArray[Any]]) -> None:
        """Give the file its inputs, once for any number of `invoke`.  ValueError where they do not fit."""
        for array, given in zip(self.inputs, inputs, strict=True):
            if (array.shape, array.dtype) != (given.shape, given.dtype):
                raise ValueError(f"the input is {array.dtype} {array.shape}, not {given.dtype} {given.shape}")
            array[...] = given

    def invoke(self) -> None:
        """Run the file, and nothing else: this is what to time."""
        if not self._library.bnncc_interpreter_invoke(self._interpreter):
            raise RuntimeError(self._error.value.decode())

    def _tensors(self, kind: str) -> list[npt.NDArray[Any]]:
        """The interpreter's own memory, as arrays."""
        return [self._array(tensor) for tensor in self._handles(kind)]

    def _quantization(self, kind: str) -> list[tuple[float, int]]:
        scale, zero_point = self._library.bnncc_tensor_scale, self._library.bnncc_tensor_zero_point
        return [(scale(tensor), zero_point(tensor)) for tensor in self._handles(kind)]

    def _handles(self, kind: str) -> list[int]:
        count = getattr(self._library, f"bnncc_interpreter_{kind}s")(self._interpreter)
        of = getattr(self._library, f"bnncc_interpreter_{kind}")
        return [of(self._interpreter, index) for index in range(count)]

    def _array(self, tensor: int) -> npt.NDArray[Any]:
        sizes = self._library.bnncc_tensor_shape(tensor)
        shape = tuple(sizes[1 : 1 + sizes[0]])
        dtype: np.dtype[Any] = np.dtype(TYPES[self._library.bnncc_tensor_type(tensor)])
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(self._library.bnncc_tensor_data(tensor))
        return np.ndarray(shape, dtype, memoryview(memory))
