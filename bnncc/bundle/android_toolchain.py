"""Compiles for Android: with an NDK, or without one with pip's ziglang.

ziglang has no Android C library, but its clang and lld know Android's ABIs.  The sources declare what they take from
the C library themselves, so that no header is missing; and for the linker a library of the same name that defines the
same symbols does: Android's own takes its place on the device.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnncc.bundle.toolchain import check_zig
from bnncc.runtime import BuildError
from bnncc.runtime.build import MACHINE_FLAGS, ZIG, call, flags, sources

# Android 7.0.
API_LEVEL = 24
FILES = Path(__file__).parent / "files" / "android"
# The library of an app, the class that loads it, and the one that makes the network's input of a picture.
LIBRARY, KOTLIN, KOTLIN_PICTURE = "libbnncc_runtime.so", FILES / "BnnccDelegate.kt", FILES / "BnnccPicture.kt"


@dataclass(frozen=True)
class Abi:
    """How compilers call an ABI of Android; zig_processor: what zig's builtins are compiled for, where they are needed.

    elf_machine: the number in a library's header.
    """

    triple: str
    machine: str
    linker: str
    elf_machine: int
    flags: tuple[str, ...] = ()
    zig_target: str = ""
    zig_processor: str = ""


ABIS = {
    "arm64-v8a": Abi(
        f"aarch64-linux-android{API_LEVEL}", "aarch64", "/system/bin/linker64", 183, ("-mno-outline-atomics",)
    ),
    # 64-bit divisions are calls of functions that Android's C library does not promise.
    "armeabi-v7a": Abi(
        f"armv7a-linux-androideabi{API_LEVEL}",
        "armv7",
        "/system/bin/linker",
        40,
        zig_target="arm-linux-androideabi",
        zig_processor="generic+v7a+neon",
    ),
}

# All of these are in Android's libraries since API level 21 at the latest.
STUBS = {
    "libc.so": (
        "__libc_init", "__system_property_get", "clock_gettime", "dprintf", "exit", "fclose", "fopen", "fread", "free",
        "fseek", "ftell", "getauxval", "malloc", "memcmp", "memcpy", "memmove", "memset", "printf", "pthread_create",
        "pthread_join", "qsort", "readlink", "snprintf", "strchr", "strcmp", "strlen", "strrchr", "strstr", "strtol",
        "syscall", "vdprintf", "vsnprintf",
    ),
    "libm.so": (
        "ceilf", "cosf", "erfcf", "expf", "expm1f", "floorf", "fmodf", "logf", "powf", "rintf", "sinf", "sqrtf",
        "tanhf",
    ),
}  # fmt: skip
# Headers of 16 KiB pages, which newer phones have; they fit smaller ones.
LINKER_FLAGS = ("--hash-style=both", "-z", "max-page-size=16384", "-z", "defs", "-s")


def compile_app_library(abi: str, compiler: str, output: Path) -> None:
    """Write the delegate of an app, which `KOTLIN` loads, to `output`.  BuildError as of `compile_for_android`."""
    compile_for_android(abi, compiler, [*sources(), FILES / "jni.cc"], output, exports=FILES / "exports.map")


def compile_for_android(
    abi: str, compiler: str, sources: Sequence[Path], output: Path, *, exports: Path | None = None
) -> None:
    """Write a shared library that exports what `exports` lists, or without it a program.

    BuildError where the compiler is missing or fails.
    """
    if compiler == "zig":
        _compile_with_zig(ABIS[abi], sources, output, exports)
    elif compiler == "ndk":
        _compile_with_ndk(ABIS[abi], sources, output, exports)
    else:
        raise BuildError(f"--compiler {compiler} is for Linux, not for Android: choose zig or ndk")


def _target(abi: Abi) -> list[str]:
    """What tells clang the ABI."""
    return [f"--target={abi.triple}", *abi.flags, *MACHINE_FLAGS.get(abi.machine, [])]


def _compile_with_zig(abi: Abi, sources: Sequence[Path], output: Path, exports: Path | None) -> None:
    target = _target(abi)
    library = check_zig() / "lib"  # clang's own headers in `include`, and the builtins' source
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        include = ["-resource-dir", str(library)]
        freestanding = ["-ffreestanding", "-nostdinc++"]
        paths = [str(path.resolve()) for path in (*sources, FILES / "aeabi.cc")]
        call([*ZIG, "clang", *target, *include, *flags(), *freestanding, "-c", *paths], folder)
        objects = sorted(folder.glob("*.o"))
        stubs = [_stub(name, symbols, target, folder) for name, symbols in STUBS.items()]
        builtins = [_builtins(abi, library, folder)] if abi.zig_target else []
        if exports is None:
            kind = ["-pie", "-dynamic-linker", abi.linker]
        else:
            kind = ["-shared", "-soname", output.name, f"--version-script={exports}"]
        inputs = [str(path) for path in (*objects, *stubs, *builtins)]
        call([*ZIG, "ld.lld", *kind, *LINKER_FLAGS, "--as-needed", *inputs, "-o", str(output.absolute())])


def _stub(name: str, symbols: Sequence[str], target: Sequence[str], folder: Path) -> Path:
    """A library called `name` that defines `symbols`, to link against."""
    source = folder / f"{name}.s"
    source.write_text("".join(f".globl {symbol}\n.type {symbol}, %function\n{symbol}:\n" for symbol in symbols))
    library = folder / name
    call([*ZIG, "clang", *target, "-c", str(source), "-o", f"{source}.stub"])
    call([*ZIG, "ld.lld", "-shared", "-soname", name, f"{source}.stub", "-o", str(library)])
    return library


def _builtins(abi: Abi, zig: Path, folder: Path) -> Path:
    """The archive of what a compiler calls where the processor has no instruction."""
    library = folder / "libbuiltins.a"
    # Code for a library, which is the default up to zig 0.15 alone.
    options = ["-target", abi.zig_target, f"-mcpu={abi.zig_processor}", "-O", "ReleaseFast", "-fPIC"]
    options.append(f"-femit-bin={library}")
    call([*ZIG, "build-lib", str(zig / "compiler_rt.zig"), *options], folder)
    return library


def ndk_compiler() -> Path:
    """The C++ compiler of the NDK that ANDROID_NDK_HOME names.  BuildError where there is none."""
    given = os.environ.get("ANDROID_NDK_HOME")
    if not given:
        raise BuildError("--compiler ndk needs the environment variable ANDROID_NDK_HOME, the folder of an NDK")
    host = f"{platform.system().lower()}-x86_64"  # there is no other, Apple's ARM included
    command = Path(given) / "toolchains" / "llvm" / "prebuilt" / host / "bin" / "clang++"
    if not command.is_file():
        raise BuildError(f"ANDROID_NDK_HOME names {given}, which has no {command.relative_to(given)}")
    return command


def _compile_with_ndk(abi: Abi, sources: Sequence[Path], output: Path, exports: Path | None) -> None:
    command = ndk_compiler()
    kind = ["-pie"] if exports is None else ["-shared", f"-Wl,-soname,{output.name}", f"-Wl,--version-script={exports}"]
    call([
        str(command), *_target(abi), *flags(),
        *(str(path) for path in sources if path.name != "start.cc"),  # an NDK has its own
        *kind, "-nostdlib++", "-lm", "-Wl,--hash-style=both", "-Wl,-z,max-page-size=16384", "-Wl,-z,defs", "-s",
        "-o", str(output),
    ])  # fmt: skip
