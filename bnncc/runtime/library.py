"""Finds the delegate's library for this machine, builds it where there is none, and loads it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from ai_edge_litert.interpreter import Delegate
from ai_edge_litert.interpreter import load_delegate as load_external_delegate

from bnncc.runtime.build import BuildError, Platform, build, fingerprint

LIBRARY_VARIABLE = "BNNCC_RUNTIME"
CACHE_VARIABLE = "BNNCC_CACHE"


def library_path() -> Path:
    """The library for this machine.

    In this order: the file that the environment variable BNNCC_RUNTIME names; the file for this machine in the package
    (`bnncc/runtime/libraries/MACHINE.so`); the one that an earlier call built from the same sources; a new one.  Built
    libraries lie in the folder that BNNCC_CACHE names, or in the user's cache folder.  BuildError where there is none
    and none can be built.
    """
    given = os.environ.get(LIBRARY_VARIABLE)
    if given:
        if not Path(given).is_file():
            raise BuildError(f"{LIBRARY_VARIABLE} names {given}, which is no file")
        return Path(given)
    target = Platform.here()
    packaged = Path(__file__).parent / "libraries" / f"{target.machine}.so"
    if packaged.is_file():
        return packaged
    return built_library(target)


def built_library(target: Platform) -> Path:
    """The library for `target` in the cache folder, built where it is not there.  BuildError where that fails."""
    built = cache_folder() / f"bnncc-runtime-{target.machine}-{fingerprint(target)}.so"
    if not built.is_file():
        build(built, target)
    return built


def cache_folder() -> Path:
    """Where built libraries are kept."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnncc"


def load_delegate(threads: int = 0, *, kernel: str = "auto", fuse: bool = True) -> Delegate:
    """The delegate, for `experimental_delegates` of ai-edge-litert's `Interpreter`.

    threads: how many it uses; 0 for as many as the interpreter.  kernel: one of `kernels()` instead of the fastest.
    fuse: also run the float operators between LCE's operators, in one go over memory; the results are the same.
    A ValueError says which option does not fit.  BuildError as of `library_path`.
    """
    options = {"threads": str(threads), "kernel": kernel, "fuse": str(int(fuse))}
    return load_external_delegate(str(library_path()), options)


def kernels() -> list[str]:
    """The names of the kernels that run on this processor, the fastest first."""
    name_of = ctypes.CDLL(str(library_path())).bnncc_kernel_name
    name_of.restype = ctypes.c_char_p
    names: list[str] = []
    while (name := name_of(len(names))) is not None:
        names.append(name.decode())
    return names
