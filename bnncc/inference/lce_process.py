"""LCE's interpreter in a process of another Python, which has NumPy 1: the side that asks (`lce.py` answers)."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from bnncc.inference import lce
from bnncc.ir.arrays import Array
from bnncc.system.standard_error import STANDARD_ERROR

# Names the Python.
PYTHON_VARIABLE = "BNNCC_LCE_PYTHON"


class LceProcess:
    """A process that runs files, each under its number.  RuntimeError where it cannot, or ends."""

    def __init__(self, python: str) -> None:
        self._name = f"{PYTHON_VARIABLE} names {python}"
        self._lock = threading.Lock()
        self.unwanted: list[int] = []  # which the next request closes
        try:
            # -I: neither this folder nor PYTHONPATH, which is that of this Python.
            self._process = subprocess.Popen(
                [python, "-I", lce.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1
            )
        except OSError as error:
            raise RuntimeError(f"{self._name}, which cannot be run: {error.strerror}") from error
        try:
            self._answer()
        except RuntimeError as error:
            self._process.kill()
            self._process.wait()
            raise RuntimeError(f"{self._name}, in which LCE's interpreter does not run: {error}") from error

    def ask(self, request: dict[str, Any], arrays: Sequence[Array] = (), content: bytes = b"") -> dict[str, Any]:
        """The answer, with its arrays as "arrays".  RuntimeError where LCE refuses, or the process ended."""
        assert self._process.stdin is not None
        with self._lock:
            closed = [self.unwanted.pop() for _ in range(len(self.unwanted))]
            try:
                lce.send(self._process.stdin, {**request, "close": closed}, arrays, content)
            except OSError as error:
                raise RuntimeError(f"{self._name}, whose process ended") from error
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
            answer["arrays"] = lce.receive_arrays(self._process.stdout, answer["arrays"])
        except (ValueError, LookupError, TypeError) as error:  # nothing, or nothing of ours
            raise RuntimeError(f"{self._name}, whose process ended") from error
        if told := answer.get("told"):
            os.write(STANDARD_ERROR, told.encode())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


@functools.cache
def process(python: str, parent: int) -> LceProcess:
    """The one process for all files; parent: this process's number, as one that it forks has pipes of its own."""
    del parent
    return LceProcess(python)


class DistantInterpreter:
    """What `lce.open_interpreter` yields, in the other process."""

    def __init__(self, python: str, content: bytes, threads: int, fastest: bool) -> None:
        self._process = process(python, os.getpid())
        answer = self._process.ask({"load": [len(content), threads, fastest]}, content=content)
        self._number = answer["number"]
        self.input_shapes: list[tuple[int, ...]] = [tuple(shape) for shape in answer["inputs"]]
        self.output_shapes: list[tuple[int, ...]] = [tuple(shape) for shape in answer["outputs"]]
        # Nothing is sent from here: it may run in the middle of another request.
        weakref.finalize(self, self._process.unwanted.append, self._number)

    def predict(self, inputs: Sequence[Array]) -> list[Array]:
        """One array for each input in, the outputs out.  RuntimeError where LCE refuses them."""
        found: list[Array] = self._process.ask({"run": self._number}, inputs)["arrays"]
        return found


@functools.cache
def why_not_there(python: str) -> str | None:
    """Why that Python does not run it; None where it does."""
    try:
        process(python, os.getpid())
    except RuntimeError as error:
        return str(error)
    return None
