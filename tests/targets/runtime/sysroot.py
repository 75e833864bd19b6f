"""Makes the folders in which programs for ARM Linux run on this machine, under qemu's user emulation.

    python -m tests.targets.runtime.sysroot DIR

DIR/headers gets TensorFlow Lite 2.14's C headers, from a package of npm.  For aarch64 and armv7, DIR/MACHINE gets
Debian's Python 3.11 with what it needs, by mmdebstrap, and DIR/MACHINE-packages NumPy and a TensorFlow Lite
interpreter, by pip.  A folder that is there is left as it is.  Needs npm, mmdebstrap and qemu-user-static (Debian's
packages) and the right to make folders of root's, as mmdebstrap has it under root or with unshare.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RELEASE = "bookworm"
DEBIAN_PACKAGES = [
    "python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libffi8", "libssl3", "libexpat1", "liblzma5",
    "libbz2-1.0",
]  # fmt: skip
# The one package that holds TensorFlow Lite's C headers, of version 2.14.
HEADERS_PACKAGE = "react-native-fast-tflite@1.2.0"
HEADERS_FOLDER = "android/src/main/cpp/lib/tensorflow/headers"

# What Linux shows of a Raspberry Pi's processor.
CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3

Hardware\t: BCM2835
"""


@dataclass(frozen=True)
class Machine:
    """How one machine is emulated: Debian's name of it, the processor, and where its wheels come from."""

    debian: str
    qemu: str
    processor: str
    part: str
    features: str
    debian_packages: tuple[str, ...]
    wheels: tuple[str, ...]
    platforms: tuple[str, ...]


MACHINES = {
    "aarch64": Machine(
        "arm64", "qemu-aarch64-static", "cortex-a72", "0xd08", "fp asimd evtstrm crc32 cpuid", (),
        ("ai-edge-litert==2.3.0", "numpy==1.26.4", "ml_dtypes==0.5.4"),
        ("manylinux_2_27_aarch64", "manylinux2014_aarch64"),
    ),
    "armv7": Machine(
        "armhf", "qemu-arm-static", "cortex-a7", "0xc07", "half thumb vfp edsp neon vfpv3 tls vfpv4 idiva idivt",
        ("python3-numpy",), ("tflite-runtime==2.14.0",), ("manylinux_2_34_armv7l",),
    ),
}  # fmt: skip


def make(folder: Path, name: str) -> None:
    """Make the sysroot and the packages of machine `name` in `folder`, where they are not there."""
    machine = MACHINES[name]
    root, packages = folder / name, folder / f"{name}-packages"
    folder.mkdir(parents=True, exist_ok=True)
    if not root.is_dir():
        partial = folder / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)
        include = ",".join([*DEBIAN_PACKAGES, *machine.debian_packages])
        command = ["mmdebstrap", "--variant=extract", f"--arch={machine.debian}", f"--include={include}", RELEASE]
        subprocess.run([*command, str(partial), f"deb {mirror()} {RELEASE} main"], check=True)
        # Without it, or with this machine's own, the interpreters' look at the processor ends in a crash.
        (partial / "proc").mkdir(exist_ok=True)
        (partial / "proc" / "cpuinfo").write_text(CPUINFO.format(features=machine.features, part=machine.part))
        partial.rename(root)
    if not packages.is_dir():
        install(packages, machine.platforms, machine.wheels)


def install(folder: Path, platforms: Sequence[str], wheels: Sequence[str]) -> None:
    """Put wheels for Python 3.11 of these platforms in `folder`."""
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--target", str(partial), "--python-version", "3.11",
        "--only-binary=:all:", "--no-deps",
    ]  # fmt: skip
    for platform in platforms:
        command += ["--platform", platform]
    subprocess.run([*command, *wheels], check=True)
    partial.rename(folder)


def make_headers(folder: Path) -> None:
    """Put TensorFlow Lite's C headers in folder/headers, where they are not there."""
    if (folder / "headers").is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        subprocess.run(["npm", "pack", "--silent", HEADERS_PACKAGE], cwd=name, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(Path(name).glob("*.tgz"))) as archive:
            archive.extractall(name, filter="data")
        (Path(name) / "package" / HEADERS_FOLDER).rename(folder / "headers")


def mirror() -> str:
    """Where this machine's apt gets Debian's packages of RELEASE."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {RELEASE}", "Created-By: Packages"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if not found:
        raise SystemExit(f"apt knows no mirror of Debian {RELEASE}")
    return found[0]


def run(
    folder: Path, name: str, arguments: Sequence[str], processor: str | None = None, emulator: Sequence[str] = ()
) -> str:
    """Run the machine's Python with `arguments`; what it prints.  CalledProcessError where it fails.

    emulator: the command that starts qemu, instead of the machine's own.
    """
    done = subprocess.run(
        command(folder, name, arguments, emulator),
        env=environment(name, processor),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def command(
    folder: Path, name: str, arguments: Sequence[str], emulator: Sequence[str] = (), packages: Path | None = None
) -> list[str]:
    """The command that runs the machine's Python with `arguments`; `emulator` as of `run`.

    packages: the folder of Python's packages, instead of the machine's own.
    """
    root = folder / name
    triplet = next((root / "usr" / "lib").glob("*-linux-gnu*")).name
    # NumPy's own packages keep BLAS and LAPACK in folders of their own.
    folders = [root / "lib" / triplet, *(root / "usr" / "lib" / triplet / part for part in ("", "blas", "lapack"))]
    search = ":".join(map(str, folders))
    path = ":".join(
        [str(packages or folder / f"{name}-packages"), str(root / "usr" / "lib" / "python3" / "dist-packages")]
    )
    return [
        *(emulator or [MACHINES[name].qemu]), "-L", str(root), "-E", f"LD_LIBRARY_PATH={search}",
        "-E", f"PYTHONPATH={path}", "-E", f"PYTHONHOME={root / 'usr'}", str(root / "usr" / "bin" / "python3.11"),
        *arguments,
    ]  # fmt: skip


def environment(name: str, processor: str | None = None) -> dict[str, str]:
    """What `command` runs with.  processor: instead of the machine's own."""
    return {**os.environ, "QEMU_CPU": processor or MACHINES[name].processor}


def main() -> None:
    """Make all in the folder that the command line names."""
    folder = Path(sys.argv[1]).absolute()
    make_headers(folder)
    for name in MACHINES:
        make(folder, name)


if __name__ == "__main__":
    main()
