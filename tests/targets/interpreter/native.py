"""Compiles the interpreter for tests, and runs files in it."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnncc.ir.evaluate import Array
from bnncc.runtime.build import Platform, compiler, fingerprint, flags, program_sources, source_folder, sources

HERE = Path(__file__).parent
# Those of the C API (abi.h).
TYPES = {1: np.float32, 2: np.int32, 3: np.uint8, 4: np.int64, 6: np.bool_, 9: np.int8, 10: np.float16}
ERROR_SIZE = 512
SANITIZERS = "-fsanitize=address,undefined"


def cached(name: str, *command: str) -> Path:
    """What `command`, a compiler's with $OUT for its output, makes; once for all processes and for these sources."""
    folder = Path(tempfile.gettempdir()) / f"bnncc-tests-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    program = (path for path in source_folder().rglob("*") if path.suffix in {".cc", ".h"})
    output = folder / f"{name}-{fingerprint(Platform.here())}-{hash_of(*program, *HERE.glob('*.cc'))}"
    with (folder / f"{name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not output.exists():
            partial = output.with_name(f"{output.name}.part")
            subprocess.run([part.replace("$OUT", str(partial)) for part in command], check=True)
            partial.rename(output)
    return output


def hash_of(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:16]


def _code(*own: Path) -> list[str]:
    return [str(path) for path in (*sources(), *program_sources(), *own) if path.name != "run.cc" or path in own]


@functools.cache
def library() -> ctypes.CDLL:
    """The interpreter with the delegate, as a library."""
    libraries = ["-nodefaultlibs", "-lpthread", "-lm", "-lc", "-lgcc"]
    command = [*compiler(Platform.here()), *flags(), "-shared", *_code(HERE / "library.cc"), *libraries, "-o", "$OUT"]
    loaded = ctypes.CDLL(str(cached("interpreter.so", *command)))
    for name in ("interpreter_create", "interpreter_input", "interpreter_output", "tensor_data"):
        getattr(loaded, name).restype = ctypes.c_void_p
    loaded.tensor_shape.restype = ctypes.POINTER(ctypes.c_int)
    return loaded


def sanitized_driver() -> Path | None:
    """The program of run_files.cc with clang's address and undefined-behaviour sanitizers; None without clang."""
    clang = shutil.which("clang++")
    if clang is None:
        return None
    options = [
        *flags(),
        "-O0",
        "-gline-tables-only",
        SANITIZERS,
        "-fno-sanitize-recover=all",
        "-DBNNCC_HAS_CXX_LIBRARY",
    ]
    return cached("run_files", clang, *options, *_code(HERE / "run_files.cc"), "-lpthread", "-o", "$OUT")


class InterpreterRunner:
    """A .tflite file in the interpreter; used like `bnncc.runtime.LitertRunner`.

    RuntimeError where the file cannot be prepared.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        self._library = library()
        self._content = ctypes.create_string_buffer(content, len(content))  # the interpreter reads it all the while
        self._error = ctypes.create_string_buffer(ERROR_SIZE)  # and writes this
        sizes = ctypes.c_size_t(len(content)), ctypes.c_size_t(ERROR_SIZE)
        made = self._library.interpreter_create(self._content, sizes[0], threads, self._error, sizes[1])
        if not made:
            raise RuntimeError(self._error.value.decode())
        self._interpreter = ctypes.c_void_p(made)
        self._inputs = self._tensors("input")
        self._outputs = self._tensors("output")
        self.input_shapes = [array.shape for array in self._inputs]
        self.output_shapes = [array.shape for array in self._outputs]

    def __del__(self) -> None:
        if hasattr(self, "_interpreter"):
            self._library.interpreter_destroy(self._interpreter)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One array for each input in, the outputs out."""
        self.set_inputs(inputs)
        self.invoke()
        return [array.copy() for array in self._outputs]

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        """Give the file its inputs, once for any number of `invoke`."""
        for array, given in zip(self._inputs, inputs, strict=True):
            assert array.shape == given.shape
            assert array.dtype == given.dtype
            array[...] = given

    def invoke(self) -> None:
        """Run the file, and nothing else: this is what to time."""
        if not self._library.interpreter_invoke(self._interpreter):
            raise RuntimeError(self._error.value.decode())

    def _tensors(self, kind: str) -> list[Array]:
        """The interpreter's own memory, as arrays."""
        count = getattr(self._library, f"interpreter_{kind}s")(self._interpreter)
        return [self._array(getattr(self._library, f"interpreter_{kind}")(self._interpreter, i)) for i in range(count)]

    def _array(self, tensor: int) -> Array:
        at = ctypes.c_void_p(tensor)
        sizes = self._library.tensor_shape(at)
        shape = tuple(sizes[1 : 1 + sizes[0]])
        dtype = np.dtype(TYPES[self._library.tensor_type(at)])
        memory = (ctypes.c_char * (int(np.prod(shape)) * dtype.itemsize)).from_address(self._library.tensor_data(at))
        return np.frombuffer(memory, dtype).reshape(shape)
