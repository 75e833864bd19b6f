"""Compiles the delegate, and the program `bnncc_run`: one call of a C++ compiler on the sources of `targets/runtime`.

The compiler of the system builds for this machine; pip's `ziglang` builds for every platform of `PLATFORMS`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bnncc.targets
from bnncc.errors import BnnccError

# The command of pip's ziglang.
ZIG = (sys.executable, "-m", "ziglang")
# The oldest glibc a library by ziglang needs: any Raspberry Pi OS has a later one.
GLIBC = "2.17"
# The oldest macOS: the first on Apple's own processors.
MACOS = "11.0"

MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64", "armv7l": "armv7"}
# glibc's names of what Linux runs on.
ZIG_TARGETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "armv7": "arm-linux-gnueabihf"}
MACHINE_FLAGS = {"armv7": ["-mfpu=neon"]}
# Clang's: `operator delete` is the library's own, and would stand in for that of the whole process.  Elsewhere the
# linker is told what to export.  (The flag has a newer name, which clang before LLVM 18 does not know.)
SYSTEM_FLAGS = {"macos": ["-fvisibility-global-new-delete-hidden"]}
# Where the delegate's sources and headers lie, below `source_folder`.
LIBRARY_FOLDERS = (".", "operators", "kernels")
INTERPRETER_FOLDERS = ("interpreter", "interpreter/builtins")


# No build takes so many seconds; a folder of one that is older belongs to nobody.
LONGEST_BUILD = 3600
_BUILD_PREFIX = ".build-"


class BuildError(BnnccError):
    """The library cannot be built: no compiler, or the compiler's own message."""


class NoCompilerError(BuildError):
    """There is none; the message says what would do."""


@dataclass(frozen=True)
class Platform:
    """What native code is built for.

    machine: x86_64, aarch64 or armv7.  system: linux (with glibc), musl (Linux with that C library), macos or windows.
    """

    machine: str
    system: str = "linux"

    @classmethod
    def here(cls) -> Platform:
        """This machine; BuildError where the delegate does not exist for it."""
        machine = platform.machine().lower()
        if sys.maxsize < 2**32:  # a 32-bit Python, on a 64-bit kernel or on one of its own
            machine = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(machine, machine)
        system = {"linux": "linux", "darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
        if machine == "armv7l" and not _passes_floats_in_registers():
            machine = "armv7l with soft float"
        if system == "linux" and platform.libc_ver()[0] != "glibc":
            system = "musl"  # which older Pythons know by no name
        found = cls(MACHINES.get(machine, machine), system)
        if found not in PLATFORMS:
            raise BuildError(f"the delegate exists for {', '.join(map(str, PLATFORMS))}, not for {found}")
        return found

    def __str__(self) -> str:
        return f"{self.system} {self.machine}"

    @property
    def library(self) -> str:
        """The delegate's file name."""
        names = {"macos": "libbnncc_runtime.dylib", "windows": "bnncc_runtime.dll"}
        return names.get(self.system, "libbnncc_runtime.so")

    @property
    def program(self) -> str:
        """The file name of the program that runs a network without any interpreter of others."""
        return "bnncc_run.exe" if self.system == "windows" else "bnncc_run"

    @property
    def zig_target(self) -> str:
        """How ziglang calls it, with the oldest version of the system that is wanted."""
        if self.system == "linux":
            return f"{ZIG_TARGETS[self.machine]}.{GLIBC}"
        if self.system == "musl":
            return ZIG_TARGETS[self.machine].replace("gnu", "musl")
        return f"{self.machine}-macos.{MACOS}" if self.system == "macos" else f"{self.machine}-windows-gnu"


# Of an ELF header of 32 bits: where its flags are, and the one of ARM code of the hard-float ABI (armhf).
_ELF_FLAGS, _HARD_FLOAT = slice(36, 40), 0x400


def _passes_floats_in_registers() -> bool:
    """Whether this Python is of the hard-float ABI of 32-bit ARM."""
    with Path(sys.executable).open("rb") as file:
        return bool(int.from_bytes(file.read(40)[_ELF_FLAGS], "little") & _HARD_FLOAT)


PLATFORMS = (
    *(Platform(machine, system) for system in ("linux", "musl") for machine in ZIG_TARGETS),
    Platform("aarch64", "macos"),
    Platform("x86_64", "macos"),
    Platform("x86_64", "windows"),
)


def source_folder() -> Path:
    """The folder of the delegate's sources."""
    return Path(bnncc.targets.__file__).parent / "runtime"


def sources() -> list[Path]:
    """The files to compile; headers beside them are found by their relative paths."""
    folder = source_folder()
    return [path for part in LIBRARY_FOLDERS for path in sorted((folder / part).glob("*.cc"))]


def program_sources() -> list[Path]:
    """What the program `bnncc_run` is made of beside the delegate: an interpreter, and the command line."""
    return [*interpreter_sources(), *sorted((source_folder() / "program").glob("*.cc"))]


def interpreter_sources() -> list[Path]:
    """The interpreter, which runs a file without any other's: what is added to the delegate in a wheel's library."""
    folder = source_folder()
    return [path for part in INTERPRETER_FOLDERS for path in sorted((folder / part).glob("*.cc"))]


def interpreter_api() -> Path:
    """The interpreter's functions for other languages."""
    return source_folder() / "c_api" / "interpreter.cc"


def flags() -> list[str]:
    """The flags that every file takes."""
    return (source_folder() / "flags.txt").read_text().split()


def _source_flags(target: Platform) -> list[str]:
    return [*flags(), *SYSTEM_FLAGS.get(target.system, [])]


def compiler(target: Platform) -> list[str]:
    """The command that compiles for `target`: $CXX, the system's c++, g++ or clang++, or ziglang.

    NoCompilerError where there is none, BuildError where $CXX is no command.
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
        return zig(target)
    wanted = "a C++ compiler (c++, g++, clang++, or $CXX) or " if native else ""
    raise NoCompilerError(f"building the delegate for {target} needs {wanted}the package ziglang (pip install ziglang)")


def zig_folder() -> Path | None:
    """Where pip's ziglang lies; None where it is not installed."""
    spec = importlib.util.find_spec("ziglang")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def zig(target: Platform) -> list[str]:
    """The command of ziglang's compiler for `target`; it knows C++ by the files' names.

    As `c++` it would first compile a C++ library for the target, which nothing here needs: a minute.
    """
    return [*ZIG, "cc", "-target", target.zig_target]


def fingerprint(target: Platform) -> str:
    """Changes with whatever changes the delegate that is built here: sources, flags, compiler, target."""
    return _digest(LIBRARY_FOLDERS, str(target), *compiler(target), *_source_flags(target))


def stamp(target: Platform) -> str:
    """Changes with whatever the sources say of the library of a wheel: one of another stamp is another version's."""
    return _digest((*LIBRARY_FOLDERS, *INTERPRETER_FOLDERS, "c_api"), str(target), *_source_flags(target))


def _digest(folders: Sequence[str], *words: str) -> str:
    """Of `words`, and of the files in `folders` of the sources."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(word.encode() + b"\0")
    folder = source_folder()
    files = (path for part in folders for path in (folder / part).iterdir())
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
        compile_library(compiler(target), target, library)
        library.chmod(0o755)  # whatever the umask: a library that others may write is not loaded
        os.replace(library, output)


def _remove_abandoned(folder: Path) -> None:
    """What builds that were killed left there."""
    for path in folder.glob(f"{_BUILD_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > LONGEST_BUILD:
                shutil.rmtree(path, ignore_errors=True)


def compile_library(command: list[str], target: Platform, output: Path, *, interpreter: bool = False) -> None:
    """Write the delegate for `target` to `output` with the C++ compiler `command`.  BuildError if it fails.

    interpreter: the library holds the interpreter as well.
    """
    code = [*sources(), *(([*interpreter_sources(), interpreter_api()]) if interpreter else [])]
    maths = ["-lm"] if interpreter and target.system != "windows" else []
    exports = []
    if target.system in ("linux", "musl"):  # elsewhere the sources say what is visible, and nothing else is
        exports = ["-Wl,--no-undefined", f"-Wl,--version-script={source_folder() / 'exports.map'}"]
    # On macOS a library bears a name of its own, by default the path that it was first written to.
    own_name = [f"-Wl,-install_name,@rpath/{target.library}"] if target.system == "macos" else []
    call([*command, *_flags(target), "-shared", *map(str, code), *_libraries(command, target, *maths), *exports,
          *own_name, "-o", str(output)])  # fmt: skip


def compile_program(command: list[str], target: Platform, output: Path) -> None:
    """Write the program for `target` to `output` with the C++ compiler `command`.  BuildError if it fails."""
    code = map(str, (*sources(), *program_sources()))
    maths = [] if target.system == "windows" else ["-lm"]
    call([*command, *_flags(target), *code, *_libraries(command, target, *maths), "-o", str(output)])


def _flags(target: Platform) -> list[str]:
    return [*_source_flags(target), *MACHINE_FLAGS.get(target.machine, []), "-nodefaultlibs", "-s"]


def _libraries(command: list[str], target: Platform, *before: str) -> list[str]:
    """What to link: nothing of the C++ library."""
    own = {"macos": [], "windows": ["-lapi-ms-win-core-synch-l1-2-0"]}.get(target.system, ["-lpthread"])
    return [*before, *own, "-lc", *([] if "ziglang" in command else ["-lgcc"])]  # zig brings its own helpers


def needed_glibc(path: Path) -> tuple[int, ...]:
    """The latest version of glibc that a library or program asks for; () where it asks for none.

    Its dynamic string table holds them as text.
    """
    found = re.findall(rb"GLIBC_([\d.]+)", path.read_bytes())
    return max((tuple(map(int, version.split(b"."))) for version in found), default=())


def call(command: list[str], folder: Path | None = None) -> None:
    """Run a compiler, in `folder`; BuildError with its own message where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=folder)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(command)}\nfailed with status {done.returncode}:\n{done.stderr.strip()}")
