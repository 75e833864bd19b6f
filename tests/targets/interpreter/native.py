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
from pathlib import Path

from bnncc.runtime import interpreter
from bnncc.runtime.build import (
    Platform,
    compiler,
    fingerprint,
    flags,
    interpreter_api,
    program_sources,
    source_folder,
    sources,
)

HERE = Path(__file__).parent
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
    own = interpreter_api(), HERE / "integer_kernels.cc"
    libraries = ["-nodefaultlibs", "-lpthread", "-lm", "-lc", "-lgcc"]
    command = [*compiler(Platform.here()), *flags(), "-shared", *_code(*own), *libraries, "-o", "$OUT"]
    return interpreter.load_interpreter(cached("interpreter.so", *command))


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


def InterpreterRunner(content: bytes, threads: int = 1) -> interpreter.InterpreterRunner:  # noqa: N802
    """A .tflite file in the interpreter.  RuntimeError where the file cannot be prepared."""
    return interpreter.InterpreterRunner(library(), content, threads)
