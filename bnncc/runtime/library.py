"""Finds the delegate's library for this machine, builds it where there is none, and loads it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ai_edge_litert.interpreter import Delegate
from ai_edge_litert.interpreter import load_delegate as load_external_delegate

from bnncc.errors import InputError
from bnncc.runtime.build import BuildError, NoCompilerError, Platform, build, fingerprint
from bnncc.runtime.compiled_model import accelerated_environment
from bnncc.runtime.prebuilt import prebuilt_library, why_not_prebuilt
from bnncc.runtime.trust import digest_of, digest_path, is_as_built, why_no_delegate, written_by_others
from bnncc.system.files import write_atomically

LIBRARY_VARIABLE = "BNNCC_RUNTIME"
CACHE_VARIABLE = "BNNCC_CACHE"


def library_path() -> Path:
    """The library for this machine.

    In this order: the file that the environment variable BNNCC_RUNTIME names; the one of the wheel that bnncc was
    installed from, if it is of the same sources; the one that an earlier call built from them; a new one.  Built
    libraries lie in the folder that BNNCC_CACHE names, or in the user's cache folder.  BuildError, with what to
    install, where there is none and none can be built.
    """
    target = Platform.here()
    given = os.environ.get(LIBRARY_VARIABLE)
    if given:
        if not Path(given).is_file():
            raise BuildError(f"{LIBRARY_VARIABLE} names {given}, which is no file")
        reason = why_no_delegate(Path(given), target)
        if reason is not None:
            raise BuildError(f"{LIBRARY_VARIABLE} names {given}: {reason}")
        return Path(given)
    prebuilt = prebuilt_library(target)
    if prebuilt is not None:
        return prebuilt
    try:
        return built_library(target)
    except NoCompilerError as error:
        raise BuildError(f"{error}, or a wheel of bnncc that brings it ({why_not_prebuilt(target)})") from error


def built_library(target: Platform) -> Path:
    """The library for `target` in the cache folder, built where it is not there or damaged.

    BuildError where that fails, or where another user could have written what is there.
    """
    # The folder behind links: who may write them could let them name another one between the look at it and its use.
    name = f"bnncc-runtime-{target.machine}-{fingerprint(target)}{Path(target.library).suffix}"
    built = Path(os.path.realpath(cache_folder())) / name
    return _checked(built, _state(built), target)


@functools.lru_cache(maxsize=8)
def _checked(built: Path, state: tuple[int, ...] | None, target: Platform) -> Path:
    """`built_library`, once for each `state` of the file: its bytes are read to compare them with their digest."""
    try:
        built.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Before anything is written: where others may write, what is opened may be a link of theirs.
        _refuse_if_written_by_others(built.parent)
        if not is_as_built(built):
            with _one_at_a_time(built):
                if not is_as_built(built):
                    build(built, target)
                    write_atomically(digest_path(built), f"{digest_of(built)}\n".encode())
    except OSError as error:
        raise BuildError(f"the folder {built.parent} for built delegates cannot be used: {error.strerror}") from error
    except InputError as error:
        raise BuildError(f"the folder for built delegates cannot be used: {error}") from error
    _refuse_if_written_by_others(built)
    return built


def _refuse_if_written_by_others(path: Path) -> None:
    reason = written_by_others(path)
    if reason is not None:
        raise BuildError(
            f"the delegate of {path} is not loaded, because another user could have written it: {reason}; mend that, "
            f"or let {CACHE_VARIABLE} name a folder of yours"
        )


@contextlib.contextmanager
def _one_at_a_time(built: Path) -> Iterator[None]:
    """Processes that need the same library wait for the one that builds it; a killed one holds nobody up."""
    # Neither through a link nor into a pipe, whoever made it.
    descriptor = os.open(built.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        with contextlib.suppress(OSError):  # a file system without locks: each builds its own
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode, found.st_uid


def cache_folder() -> Path:
    """Where built libraries are kept.  BuildError where the user has no home directory."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnncc"
    except RuntimeError as error:
        message = f"there is no home directory for built delegates ({error}): let {CACHE_VARIABLE} name a folder"
        raise BuildError(message) from error


def load_delegate(threads: int = 0, *, kernel: str = "auto", fuse: bool = True) -> Delegate:
    """The delegate, for `experimental_delegates` of ai-edge-litert's `Interpreter`.

    threads: how many it uses; 0 for as many as the interpreter.  kernel: one of `kernels()` instead of the fastest.
    fuse: also run the float operators between LCE's operators, in one go over memory; the results are the same.
    A ValueError says which option does not fit.  BuildError as of `library_path`.
    """
    options = {"threads": str(threads), "kernel": kernel, "fuse": str(int(fuse))}
    return load_external_delegate(str(library_path()), options)


def litert_environment() -> Any:
    """An environment of LiteRT, for `environment` of ai-edge-litert's CompiledModel, whose models run in the delegate.

    ImportError where LiteRT is older than 2.2.  BuildError as of `library_path`.
    """
    return accelerated_environment(library_path())


def kernels() -> list[str]:
    """The names of the kernels that run on this processor, the fastest first."""
    name_of = ctypes.CDLL(str(library_path())).bnncc_kernel_name
    name_of.restype = ctypes.c_char_p
    names: list[str] = []
    while (name := name_of(len(names))) is not None:
        names.append(name.decode())
    return names
