"""Compiles the delegate: one call of a C++ compiler on the sources of `targets/runtime`.

The compiler of the system builds for this machine; pip's `ziglang` builds for this machine and for ARM Linux.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import bnncc.targets
from bnncc.errors import BnnccError

# The command of pip's ziglang.
ZIG = (sys.executable, "-m", "ziglang")
# The oldest glibc a library by ziglang needs: any Raspberry Pi OS has a later one.
GLIBC = "2.17"

MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64", "armv7l": "armv7"}
ZIG_TARGETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "armv7": "arm-linux-gnueabihf"}
MACHINE_FLAGS = {"armv7": ["-mfpu=neon"]}
# Where the delegate's sources and headers lie, below `source_folder`.
LIBRARY_FOLDERS = (".", "operators", "kernels")


# No build takes so many seconds; a folder of one that is older belongs to nobody.
LONGEST_BUILD = 3600
_BUILD_PREFIX = ".build-"


class BuildError(BnnccError):
    """The library cannot be built: no compiler, or the compiler's own message."""


@dataclass(frozen=True)
class Platform:
    """What a library is built for: Linux with glibc on `machine`, which is x86_64, aarch64 or armv7."""

    machine: str

    @classmethod
    def here(cls) -> Platform:
        """This machine; BuildError where the delegate does not exist for it."""
        machine = platform.machine().lower()
        if machine in MACHINES and sys.maxsize < 2**32:
            machine = "armv7l"  # a 32-bit Python on a 64-bit kernel
        if sys.platform != "linux" or machine not in MACHINES:
            raise BuildError(
                f"the delegate exists for Linux on {', '.join(ZIG_TARGETS)}, not for {sys.platform} {machine}"
            )
        return cls(MACHINES[machine])


def source_folder() -> Path:
    """The folder of the delegate's sources."""
    return Path(bnncc.targets.__file__).parent / "runtime"


def sources() -> list[Path]:
    """The files to compile; headers beside them are found by their relative paths."""
    folder = source_folder()
    return [path for part in LIBRARY_FOLDERS for path in sorted((folder / part).glob("*.cc"))]


def program_sources() -> list[Path]:
    """What the program `bnncc_run` is made of beside the delegate: an interpreter, and the command line."""
    folder = source_folder()
    parts = ("interpreter", "interpreter/builtins", "program")
    return [path for part in parts for path in sorted((folder / part).glob("*.cc"))]


def flags() -> list[str]:
    """The flags that every file takes."""
    return (source_folder() / "flags.txt").read_text().split()


def compiler(target: Platform) -> list[str]:
    """The command that compiles for `target`: $CXX, the system's c++, g++ or clang++, or ziglang.

    BuildError where there is none.
    """
    native = target == Platform.here()
    if native and os.environ.get("CXX"):
        try:
            return shlex.split(os.environ["CXX"])
        except ValueError as error:
            raise BuildError(f"$CXX is no command: {error}") from error
    if native:
        for name in ("c++", "g++", "clang++"):
            found = shutil.which(name)
            if found is not None:
                return [found]
    if zig_folder() is not None:
        return zig_for_linux(target.machine)
    wanted = "a C++ compiler (c++, g++, clang++, or $CXX) or " if native else ""
    raise BuildError(
        f"building the delegate for {target.machine} needs {wanted}the package ziglang (pip install ziglang)"
    )


def zig_folder() -> Path | None:
    """Where pip's ziglang lies; None where it is not installed."""
    spec = importlib.util.find_spec("ziglang")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def zig_for_linux(machine: str) -> list[str]:
    """The command of ziglang's C++ compiler for Linux with glibc on `machine`."""
    return [*ZIG, "c++", "-target", f"{ZIG_TARGETS[machine]}.{GLIBC}"]


def fingerprint(target: Platform) -> str:
    """Changes with whatever changes the library: sources, flags, compiler, target."""
    digest = hashlib.sha256()
    for part in (target.machine, *compiler(target), *flags()):
        digest.update(part.encode() + b"\0")
    folder = source_folder()
    files = (path for part in LIBRARY_FOLDERS for path in (folder / part).iterdir())
    for path in sorted(path for path in files if path.suffix in {".cc", ".h", ".map", ".txt"}):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def build(output: Path, target: Platform | None = None) -> None:
    """Compile the library for `target` (this machine by default) to the file `output`.

    The file appears at once and whole.  BuildError where there is no compiler or it fails.
    """
    target = target or Platform.here()
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(output.parent)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=_BUILD_PREFIX) as folder:
        library = Path(folder) / output.name
        compile_library(compiler(target), target.machine, library)
        library.chmod(0o755)  # whatever the umask: a library that others may write is not loaded
        os.replace(library, output)


def _remove_abandoned(folder: Path) -> None:
    """What builds that were killed left there."""
    for path in folder.glob(f"{_BUILD_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > LONGEST_BUILD:
                shutil.rmtree(path, ignore_errors=True)


def compile_library(command: list[str], machine: str, output: Path) -> None:
    """Write the library for Linux on `machine` to `output` with the C++ compiler `command`.  BuildError if it fails."""
    own = [] if "ziglang" in command else ["-lgcc"]  # zig brings its own helpers
    call([
        *command, *flags(), *MACHINE_FLAGS.get(machine, []), "-shared", "-nodefaultlibs", "-s",
        *map(str, sources()), "-o", str(output), "-lpthread", "-lc", *own, "-Wl,--no-undefined",
        f"-Wl,--version-script={source_folder() / 'exports.map'}",
    ])  # fmt: skip


def call(command: list[str], folder: Path | None = None) -> None:
    """Run a compiler, in `folder`; BuildError with its own message where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=folder)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(command)}\nfailed with status {done.returncode}:\n{done.stderr.strip()}")
