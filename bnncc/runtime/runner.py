"""Runs a .tflite file with LCE operators in LiteRT, with the delegate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from bnncc.ir.arrays import Array
from bnncc.runtime.library import load_delegate
from bnncc.system.standard_error import without_info


class LitertRunner:
    """A .tflite file in LiteRT's interpreter with the delegate; used like `bnncc.inference.runners.LceRunner`."""

    def __init__(
        self, content: bytes, threads: int = 1, *, kernel: str = "auto", fuse: bool = True, delegate: bool = True
    ) -> None:
        """`kernel` and `fuse` as of `load_delegate`; no `delegate`: for files without LCE operators.

        RuntimeError where the file cannot be prepared.
        """
        delegates = [load_delegate(threads, kernel=kernel, fuse=fuse)] if delegate else []
        with without_info():
            self._interpreter = Interpreter(
                model_content=content, num_threads=threads, experimental_delegates=delegates
            )
            self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        self.input_shapes: list[tuple[int, ...]] = [tuple(map(int, entry["shape"])) for entry in self._inputs]
        self.output_shapes: list[tuple[int, ...]] = [tuple(map(int, entry["shape"])) for entry in self._outputs]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One array for each input, in the file's shapes and types, in; the outputs out."""
        self.set_inputs(inputs)
        self.invoke()
        return [np.asarray(self._interpreter.get_tensor(entry["index"])) for entry in self._outputs]

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        """Give the file its inputs, once for any number of `invoke`."""
        for entry, array in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(entry["index"], np.asarray(array, order="C"))

    def invoke(self) -> None:
        """Run the file, and nothing else: this is what to time."""
        self._interpreter.invoke()
