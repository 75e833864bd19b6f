"""Run a .tflite file in Larq Compute Engine's interpreter, or in LiteRT with the delegate of `bnncc.runtime`."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from bnncc.errors import InputError
from bnncc.ir.arrays import Array
from bnncc.runtime import BuildError, LitertRunner, library_path
from bnncc.system.standard_error import without_info

# LCE 0.16's interpreter is built against it; with NumPy 2 it refuses every input ("Expected N bytes but got 0").
NUMPY_OF_LCE = 1


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
    if importlib.util.find_spec("larq_compute_engine") is None:
        return "larq-compute-engine is not installed: pip install 'bnncc[lce]' (x86-64, Python 3.10 to 3.12)"
    if int(np.__version__.split(".")[0]) > NUMPY_OF_LCE:
        return f"larq-compute-engine takes arrays of NumPy {NUMPY_OF_LCE}, and NumPy {np.__version__} is installed"
    return None


class LceRunner:
    """A .tflite file in LCE's own interpreter (x86-64), loaded without TensorFlow."""

    def __init__(self, content: bytes, threads: int = 1, *, fastest: bool = False) -> None:
        """`fastest` turns on LCE's indirect kernel and XNNPACK for the float operators; the default is LCE's own."""
        wrapper = _wrapper()
        with without_info():
            # reference bconv, indirect bgemm, XNNPACK
            self._interpreter = wrapper.LiteInterpreter(content, threads, False, fastest, fastest)
        self.input_shapes: list[tuple[int, ...]] = [tuple(shape) for shape in self._interpreter.input_shapes]
        self.output_shapes: list[tuple[int, ...]] = [tuple(shape) for shape in self._interpreter.output_shapes]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One array for each input, in the file's shapes and types, in; the outputs out."""
        return [np.asarray(output) for output in self._interpreter.predict([np.asarray(x, order="C") for x in inputs])]


@functools.cache
def _wrapper() -> ModuleType:
    """LCE's interpreter extension alone: importing the package `larq_compute_engine` would import TensorFlow."""
    spec = importlib.util.find_spec("larq_compute_engine")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("larq-compute-engine is not installed")
    path = Path(spec.submodule_search_locations[0]) / "tflite" / "python" / "interpreter_wrapper_lite.so"
    extension = importlib.util.spec_from_file_location("interpreter_wrapper_lite", path)
    if extension is None or extension.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(extension)
    extension.loader.exec_module(module)
    return module
