"""Compiles the library and the program of the wheels for a platform, with ziglang, and checks what they need of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

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
    if not _is_current(library, target):
        compile_library(zig(target), target, library, interpreter=True)
        _sign(library, target)
    if not _is_current(program, target):
        compile_program(zig(target), target, program)
        _sign(program, target)
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


def _sources(target: Platform) -> str:
    """Of what a file is made: the stamp, and the program's own sources."""
    digest = hashlib.sha256(stamp(target).encode())
    for source in program_sources():
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _is_current(path: Path, target: Platform) -> bool:
    noted = _sources_path(path)
    return noted.is_file() and noted.read_text() == _sources(target) and is_as_built(path)


def _sign(path: Path, target: Platform) -> None:
    digest_path(path).write_text(f"{digest_of(path)}\n")
    _sources_path(path).write_text(_sources(target))


def files_of_library(library: Path, target: Platform) -> Iterator[tuple[str, bytes]]:
    """What the folder of `bnncc.runtime.prebuilt` holds: (name, bytes)."""
    yield library.name, library.read_bytes()
    yield digest_path(library).name, digest_path(library).read_bytes()
    yield STAMP, f"{stamp(target)}\n".encode()
