"""Run a .tflite file in Larq Compute Engine's interpreter, or in LiteRT with the delegate of `bnncc.runtime`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Protocol

import numpy as np

from bnncc.errors import InputError
from bnncc.inference import lce
from bnncc.inference.lce_process import PYTHON_VARIABLE, DistantInterpreter, why_not_there
from bnncc.ir.arrays import Array
from bnncc.runtime import BuildError, LitertRunner, library_path
from bnncc.system.standard_error import without_info


class FileRunner(Protocol):
    """A .tflite file, loaded."""

    input_shapes: list[tuple[int, ...]]
    output_shapes: list[tuple[int, ...]]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One array for each input, in the file's shapes and types, in; the outputs out."""


@contextlib.contextmanager
def running(name: object) -> Iterator[None]:
    """Runs of the file `name`, which may be damaged: what an interpreter refuses then is an InputError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{name} cannot be run: {str(error).strip()}") from error


class Runtime(Enum):
    """What runs a .tflite file with LCE's operators."""

    LCE = "lce"
    LITERT = "litert"

    @property
    def title(self) -> str:
        """For a report."""
        return "LCE's interpreter" if self is Runtime.LCE else "LiteRT with bnncc's delegate"

    @property
    def is_available(self) -> bool:
        """True where it is installed; the delegate also where this machine can build it."""
        return self.why_missing is None

    @property
    def why_missing(self) -> str | None:
        """Why this machine has none; None where it has."""
        if self is Runtime.LCE:
            return _why_lce_is_missing()
        try:
            library_path()
        except BuildError as error:
            return str(error)
        return None

    def load(self, content: bytes, *, fastest: bool = False, threads: int = 1) -> FileRunner:
        """The file; `fastest` as for `LceRunner`.  RuntimeError where the runtime does not take it."""
        if self is Runtime.LCE:
            return LceRunner(content, threads, fastest=fastest)
        return LitertRunner(content, threads)


def available_runtimes() -> tuple[Runtime, ...]:
    """The runtimes that this machine has, one at least.  Raises InputError, with what to install, where it has none."""
    return tuple(_available())


def first_runtime() -> Runtime:
    """The first of `available_runtimes`: the delegate is not built where LCE's interpreter is there."""
    return next(_available())


def _available() -> Iterator[Runtime]:
    reasons = []
    for runtime in Runtime:
        reason = runtime.why_missing
        if reason is None:
            yield runtime
        else:
            reasons.append(f"  {runtime.title}: {reason}")
    if len(reasons) == len(Runtime):
        raise InputError("\n".join(["nothing here runs the file:", *reasons]))


def _why_lce_is_missing() -> str | None:
    python = os.environ.get(PYTHON_VARIABLE)
    if python:
        return why_not_there(python)
    reason = lce.why_not_here()
    if reason is None:
        return None
    return (
        f"{reason}: pip install 'bnncc[lce]' (x86-64, Python 3.10 to 3.12, NumPy 1), or let {PYTHON_VARIABLE} name a "
        "Python that has both, as of an environment with larq-compute-engine and numpy<2"
    )


class LceRunner:
    """A .tflite file in LCE's own interpreter (x86-64): here, or in the Python that BNNCC_LCE_PYTHON names."""

    def __init__(self, content: bytes, threads: int = 1, *, fastest: bool = False) -> None:
        """`fastest` turns on LCE's indirect kernel and XNNPACK for the float operators; the default is LCE's own."""
        python = os.environ.get(PYTHON_VARIABLE)
        with without_info():
            self._interpreter = (
                DistantInterpreter(python, content, threads, fastest)
                if python
                else lce.open_interpreter(content, threads, fastest)
            )
        self.input_shapes: list[tuple[int, ...]] = [tuple(shape) for shape in self._interpreter.input_shapes]
        self.output_shapes: list[tuple[int, ...]] = [tuple(shape) for shape in self._interpreter.output_shapes]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One array for each input, in the file's shapes and types, in; the outputs out."""
        return [np.asarray(output) for output in self._interpreter.predict([np.asarray(x, order="C") for x in inputs])]
