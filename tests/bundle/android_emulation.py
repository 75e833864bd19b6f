"""Runs programs for Android on this machine: under qemu, on the glibc of a Debian whose calls pass arguments alike.

Android's linker and C library are in no registry.  glibc's loader takes the place of the linker, and small libraries
that are called as Android's (`bionic.c`) that of the C library.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.targets.runtime import sysroot

# The one package of npm that holds TensorFlow Lite's library for Android, of version 2.14.
PACKAGE = "react-native-fast-tflite@1.2.0"
LIBRARIES = "package/android/src/main/cpp/lib/tensorflow/jni"
LIBRARY = "libtensorflowlite_jni.so"

# ELF's dynamic section: its segment, and the entries about versions of symbols (VERSYM, VERDEF, VERNEED, two counts).
PT_DYNAMIC = 2
DT_DEBUG = 21
DT_VERSIONS = (0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF)


@dataclass(frozen=True)
class Emulation:
    """One ABI.  machine: of `sysroot.MACHINES`; debian, triplet, loader: the Debian whose glibc stands in."""

    machine: str
    debian: str
    triplet: str
    loader: str
    linker: str


# 32-bit Android passes floats in integer registers, as Debian's armel does and its armhf does not.
EMULATIONS = {
    "arm64-v8a": Emulation("aarch64", "arm64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1", "linker64"),
    "armeabi-v7a": Emulation("armv7", "armel", "arm-linux-gnueabi", "ld-linux.so.3", "linker"),
}


@contextlib.contextmanager
def alone(sysroots: Path) -> Iterator[None]:
    """Other processes of the tests wait meanwhile."""
    with (sysroots / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def tflite_library(sysroots: Path, abi: str) -> Path:
    """TensorFlow Lite for `abi`, in `sysroots`; npm gets it where it is not there."""
    folder = sysroots / "android"
    with alone(sysroots):
        if folder.is_dir():
            return folder / abi / LIBRARY
        with tempfile.TemporaryDirectory(dir=sysroots) as name:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=name, check=True, stdout=subprocess.DEVNULL)
            with tarfile.open(next(Path(name).glob("*.tgz"))) as archive:
                for known in EMULATIONS:
                    archive.extract(f"{LIBRARIES}/{known}/{LIBRARY}", name, filter="data")
            (Path(name) / LIBRARIES).rename(folder)
    return folder / abi / LIBRARY


def make_glibc(sysroots: Path, abi: str) -> Path:
    """The root of a Debian with little but glibc, in `sysroots`; mmdebstrap makes it where it is not there."""
    emulation = EMULATIONS[abi]
    root = sysroots / f"glibc-{emulation.debian}"
    with alone(sysroots):
        if root.is_dir():
            return root
        partial = sysroots / f".glibc-{emulation.debian}"
        shutil.rmtree(partial, ignore_errors=True)
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            f"--arch={emulation.debian}",
            "--include=libc6,libgcc-s1",
        ]
        source = f"deb {sysroot.mirror()} {sysroot.RELEASE} main"
        subprocess.run([*command, sysroot.RELEASE, str(partial), source], check=True)
        machine = sysroot.MACHINES[emulation.machine]
        (partial / "proc").mkdir(exist_ok=True)
        (partial / "proc" / "cpuinfo").write_text(sysroot.CPUINFO.format(features=machine.features, part=machine.part))
        (partial / "system" / "bin").mkdir(parents=True)
        (partial / "system" / "bin" / emulation.linker).symlink_to(f"../../lib/{emulation.loader}")
        partial.rename(root)
    return root


def make_libraries(abi: str, folder: Path) -> None:
    """Compile what is called libc.so, libm.so, libdl.so and liblog.so on Android."""
    target = f"{EMULATIONS[abi].triplet}.2.36"  # the glibc of sysroot.RELEASE
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-w", "-O1", "-fno-sanitize=all"]
    empty, math = folder / "empty.c", folder / "math.c"
    empty.write_text("")
    math.write_text("double erfc(double x);\ndouble needs_libm(double x) { return erfc(x); }\n")
    bionic = Path(__file__).with_name("bionic.c")
    for name, source in {"libc.so": bionic, "libm.so": math, "libdl.so": empty, "liblog.so": empty}.items():
        command = [*zig, "-fno-builtin", str(source), "-o", str(folder / name), f"-Wl,-soname,{name}", "-lm"]
        subprocess.run(command, check=True)


def without_versions(content: bytes) -> bytes:
    """A library that takes its symbols in any version: glibc has no version called LIBC."""
    edited = bytearray(content)
    is_64_bit = edited[4] == 2
    # Where the header says where the segments' headers are and how many; a segment's header; a dynamic entry.
    at, count_at, word = (32, 56, "<Q") if is_64_bit else (28, 44, "<I")
    segment = struct.Struct("<IIQQQQQQ" if is_64_bit else "<8I")
    entry = struct.Struct("<QQ" if is_64_bit else "<II")
    (begin,) = struct.unpack_from(word, edited, at)
    (count,) = struct.unpack_from("<H", edited, count_at)
    for index in range(count):
        fields = segment.unpack_from(edited, begin + index * segment.size)
        offset, size = (fields[2], fields[5]) if is_64_bit else (fields[1], fields[4])
        for place in range(offset, offset + size, entry.size) if fields[0] == PT_DYNAMIC else ():
            if entry.unpack_from(edited, place)[0] in DT_VERSIONS:
                entry.pack_into(edited, place, DT_DEBUG, 0)
    return bytes(edited)


def run(
    abi: str,
    root: Path,
    libraries: Path,
    program: Path,
    arguments: Sequence[str],
    processor: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program for Android on `root` of `make_glibc`, with `libraries`, the folder of `make_libraries`.

    processor: of qemu's names, instead of the machine's own.
    """
    emulation = EMULATIONS[abi]
    machine = sysroot.MACHINES[emulation.machine]
    search = ":".join(map(str, (libraries, root / "lib" / emulation.triplet, root / "usr" / "lib" / emulation.triplet)))
    command = [machine.qemu, "-L", str(root), "-E", f"LD_LIBRARY_PATH={search}", str(program), *arguments]
    environment = {**os.environ, "QEMU_CPU": processor or machine.processor}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
