"""Compiles the delegate for a device that is not this machine.

zig     pip's ziglang, for every target; a library for Linux needs glibc 2.17 or later
debian  Debian's cross compilers, for Linux; the library needs the glibc of that Debian release
ndk     the NDK that ANDROID_NDK_HOME names, for Android
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from bnncc.runtime import BuildError
from bnncc.runtime.build import GLIBC, compile_library
from bnncc.targets.description import Target

# The machine of each ABI, as bnncc.runtime.build calls it.
LINUX = {"aarch64-linux-gnu": "aarch64", "arm-linux-gnueabihf": "armv7"}


def compile_for_linux(target: Target, compiler: str, output: Path) -> None:
    """Write the delegate for `target` to `output`.  BuildError where the compiler is missing or fails."""
    if compiler == "zig":
        command = [*zig(), "c++", "-target", f"{target.abi}.{GLIBC}"]
    elif compiler == "debian":
        command = [_debian(target.abi)]
    else:
        raise BuildError(f"--compiler {compiler} is for Android, and {target.name} runs Linux: choose zig or debian")
    compile_library(command, LINUX[target.abi], output)


def zig() -> list[str]:
    """The command of pip's ziglang."""
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError("--compiler zig needs the package ziglang: pip install 'bnncc[runtime]'")
    return [sys.executable, "-m", "ziglang"]


def _debian(abi: str) -> str:
    name = f"{abi}-g++"
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"--compiler debian needs {name}: apt install g++-{abi}")
    return found
