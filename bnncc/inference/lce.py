"""LCE's own interpreter, loaded without TensorFlow: in this process, or in one of another Python.

LCE 0.16's is built against NumPy 1, for CPython 3.10 to 3.12.  So beside NumPy 2, or in a later Python, it runs in a
Python that has both, to which this file is given as a program: it needs NumPy and LCE alone, and nothing of bnncc.

The program takes requests on standard input and answers on standard output.  Each is a line of JSON, with the
bytes of a file and of arrays behind it:

    {"load": [size, threads, fastest]} content      ->  {"number": …, "inputs": [shape, …], "outputs": [shape, …]}
    {"run": number} arrays                          ->  {} arrays

"arrays" has the type and the shape of each.  A request's "close" lists the numbers of files that are wanted no longer.
An answer's "told" is what LCE wrote to standard error, and its "error" why it refuses.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

# With NumPy 2 LCE's refuses every input ("Expected N bytes but got 0").
NUMPY_OF_LCE = 1
PACKAGE = "larq_compute_engine"


class LceMissingError(ImportError):
    """LCE's interpreter is not installed in this Python."""


def why_not_here() -> str | None:
    """Why this very process cannot run it; None where it can."""
    if importlib.util.find_spec(PACKAGE) is None:
        return "larq-compute-engine is not installed"
    if int(np.__version__.split(".")[0]) > NUMPY_OF_LCE:
        return f"larq-compute-engine takes arrays of NumPy {NUMPY_OF_LCE}, and NumPy {np.__version__} is installed"
    return None


@functools.cache
def extension() -> ModuleType:
    """LCE's extension alone: importing the package would import TensorFlow.  LceMissingError where it is not there."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise LceMissingError("larq-compute-engine is not installed")
    path = Path(spec.submodule_search_locations[0]) / "tflite" / "python" / "interpreter_wrapper_lite.so"
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def open_interpreter(content: bytes, threads: int, fastest: bool) -> Any:
    """LCE's object for a file: `input_shapes`, `output_shapes`, `predict(arrays)`.  RuntimeError where LCE refuses."""
    # reference bconv, indirect bgemm, XNNPACK
    return extension().LiteInterpreter(content, threads, False, fastest, fastest)


def send(stream: IO[bytes], header: dict[str, Any], arrays: Sequence[Any] = (), content: bytes = b"") -> None:
    """Write a request or an answer."""
    ordered = [np.asarray(array, order="C") for array in arrays]
    described = [(array.dtype.str, array.shape) for array in ordered]
    stream.write(json.dumps({**header, "arrays": described}).encode() + b"\n" + content)
    for array in ordered:
        stream.write(array.tobytes())
    stream.flush()


def receive_arrays(stream: IO[bytes], described: Sequence[tuple[str, Sequence[int]]]) -> list[Any]:
    """The arrays behind a line.  ValueError where the other process ended."""
    arrays = []
    for name, shape in described:
        dtype = np.dtype(name)
        size = dtype.itemsize * math.prod(shape)
        arrays.append(np.frombuffer(stream.read(size), dtype).reshape(shape))
    return arrays


class _Server:
    """The interpreters of one process, by their numbers."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests, self._answers = requests, answers
        self._interpreters: dict[int, Any] = {}
        self._next = 0

    def serve(self) -> None:
        """Until nobody asks any more."""
        for line in self._requests:
            with tempfile.TemporaryFile() as told:
                os.dup2(told.fileno(), 2)
                try:
                    header, arrays = self._answer(json.loads(line))
                except (RuntimeError, ValueError) as error:
                    header, arrays = {"error": str(error).strip()}, []
                told.seek(0)
                header["told"] = told.read().decode(errors="replace")
            send(self._answers, header, arrays)

    def _answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        for number in request["close"]:
            del self._interpreters[number]
        if "load" in request:
            size, threads, fastest = request["load"]
            interpreter = open_interpreter(self._requests.read(size), threads, fastest)
            self._next += 1
            self._interpreters[self._next] = interpreter
            shapes = {
                "inputs": [list(shape) for shape in interpreter.input_shapes],
                "outputs": [list(shape) for shape in interpreter.output_shapes],
            }
            return {"number": self._next, **shapes}, []
        arrays = receive_arrays(self._requests, request["arrays"])
        return {}, list(self._interpreters[request["run"]].predict(arrays))


def main() -> None:
    """Say whether it runs here, as an answer; then serve."""
    # What else writes to standard output must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    reason = why_not_here()
    send(answers, {"numpy": np.__version__} if reason is None else {"error": reason})
    if reason is None:
        _Server(sys.stdin.buffer, answers).serve()


if __name__ == "__main__":
    main()
