"""Compiles the library and the program of the wheels for a platform, with ziglang, and checks what they need of it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from bnncc.bundle import android_toolchain
from bnncc.bundle.android_toolchain import FILES
from bnncc.runtime.build import (
    GLIBC,
    BuildError,
    Platform,
    compile_library,
    compile_program,
    needed_glibc,
    program_sources,
    stamp,
    zig,
)
from bnncc.runtime.prebuilt import STAMP
from bnncc.runtime.trust import digest_of, digest_path, is_as_built


def compile_native(target: Platform, folder: Path) -> tuple[Path, Path]:
    """The library, with the interpreter in it, and the program for `target`, in `folder`; as they are where they fit.

    BuildError where they cannot be compiled, or need a later glibc than their tag says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    library, program = folder / target.library, folder / target.program
    # The file of compile_library says what the linker is told.
    made_of = _digest(stamp(target), [Path(inspect.getfile(compile_library)), *program_sources()])
    if not is_current(library, made_of):
        compile_library(zig(target), target, library, interpreter=True)
        sign(library, made_of)
    if not is_current(program, made_of):
        compile_program(zig(target), target, program)
        sign(program, made_of)
    for path in (library, program):
        check_glibc(path)
    return library, program


def check_glibc(path: Path) -> None:
    """Raise BuildError where the file needs a later glibc than GLIBC."""
    needed, promised = needed_glibc(path), tuple(map(int, GLIBC.split(".")))
    if needed > promised:
        raise BuildError(f"{path} needs glibc {'.'.join(map(str, needed))}, and the tag of its wheel promises {GLIBC}")


def _sources_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sources")


def app_sources(abi: str) -> str:
    """Of what the library of Android's apps is made."""
    files = [Path(android_toolchain.__file__), *(path for path in FILES.iterdir() if path.suffix in {".cc", ".map"})]
    return _digest(f"{abi} {stamp(Platform('aarch64'))}", sorted(files))


def _digest(first: str, files: Iterable[Path]) -> str:
    """Of a stamp, and of what it does not cover; of the compiler's version too, which writes other code."""
    digest = hashlib.sha256(f"{first} ziglang {version('ziglang')}".encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_current(path: Path, made_of: str) -> bool:
    """True where the file is there, made of these sources (a digest), and as it was built."""
    noted = _sources_path(path)
    return noted.is_file() and noted.read_text() == made_of and is_as_built(path)


def sign(path: Path, made_of: str) -> None:
    """Note beside the file what it was made of, and its own digest."""
    digest_path(path).write_text(f"{digest_of(path)}\n")
    _sources_path(path).write_text(made_of)


def files_of_library(library: Path, target: Platform) -> Iterator[tuple[str, bytes]]:
    """What the folder of `bnncc.runtime.prebuilt` holds: (name, bytes)."""
    yield library.name, library.read_bytes()
    yield digest_path(library).name, digest_path(library).read_bytes()
    yield STAMP, f"{stamp(target)}\n".encode()
