"""Compiles the delegate for a device that is not this machine.

zig     pip's ziglang, for every target; a library for Linux needs glibc 2.17 or later
debian  Debian's cross compilers, for Linux; the library needs the glibc of that Debian release
ndk     the NDK that ANDROID_NDK_HOME names, for Android
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bnncc.runtime import BuildError
from bnncc.runtime.build import ZIG_TARGETS, Platform, compile_library, zig, zig_folder
from bnncc.targets.description import Target

# The platform of each ABI.
LINUX = {ZIG_TARGETS[machine]: Platform(machine) for machine in ("aarch64", "armv7")}


def compile_for_linux(target: Target, compiler: str, output: Path) -> None:
    """Write the delegate for `target` to `output`.  BuildError where the compiler is missing or fails."""
    if compiler == "zig":
        check_zig()
        command = zig(LINUX[target.abi])
    elif compiler == "debian":
        command = [_debian(target.abi)]
    else:
        raise BuildError(f"--compiler {compiler} is for Android, and {target.name} runs Linux: choose zig or debian")
    compile_library(command, LINUX[target.abi], output)


def check_zig() -> Path:
    """Where pip's ziglang lies.  BuildError where it is not installed."""
    folder = zig_folder()
    if folder is None:
        raise BuildError("--compiler zig needs the package ziglang: pip install 'bnncc[runtime]'")
    return folder


def _debian(abi: str) -> str:
    name = f"{abi}-g++"
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"--compiler debian needs {name}: apt install g++-{abi}")
    return found
