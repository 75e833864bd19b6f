#!/usr/bin/env python3
"""Runs the network in this folder.

    python3 run.py image.jpg …           print the classes with the largest logits
    python3 run.py --camera              print the class of what the camera sees, and the frames a second, till Ctrl-C
    python3 run.py video.mp4             the same of a video
    python3 run.py --bench               measure how long an image takes
    python3 run.py --check [images.npz]  compare with the computer that made this folder, or with the file's labels

Needs TensorFlow Lite, NumPy and Pillow, for a camera picamera2, for a video PyAV; where one is missing it says how to
install them on this device.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HAS_32_BITS = sys.maxsize < 2**32
# Of an ELF header of 32 bits: where its flags are, and the one of code that passes floats in float registers (armhf).
FLAGS, HARD_FLOAT = slice(36, 40), 0x400

LITERT = """\
    python3 -m venv .venv        # where that fails: sudo apt install python3-venv
    .venv/bin/pip install -r requirements.txt numpy pillow
    .venv/bin/python run.py image.jpg"""
# NumPy and Pillow of the system: the package index has none for 32-bit ARM.
TENSORFLOW_LITE = """\
    sudo apt install python3-venv python3-numpy python3-pil
    python3 -m venv --system-site-packages .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python run.py image.jpg"""
OWN_INTERPRETER = """\
There is no package of TensorFlow Lite 2.14 or later for {here}.
The wheel of bnncc-runtime (Python 3.10 or later) has an interpreter of its own:

    python3 -m venv --system-site-packages .venv
    .venv/bin/pip install bnncc_runtime-....whl
    .venv/bin/python -m bnncc_runtime model.tflite image.jpg"""


def glibc() -> tuple[int, ...]:
    """Its version; () where the C library is another one, as musl."""
    try:
        return tuple(map(int, (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[1].split(".")))
    except (AttributeError, IndexError, OSError, ValueError):
        return ()


def how_to_install() -> str:
    """What installs on this device what run.py needs, in an environment of its own: Debian's pip refuses another."""
    if HAS_32_BITS:
        has_package, lines = (3, 8) <= sys.version_info[:2] <= (3, 11) and glibc() >= (2, 34), TENSORFLOW_LITE
    else:
        has_package, lines = sys.version_info[:2] >= (3, 9) and glibc() >= (2, 27), LITERT
    if has_package:
        return f"run.py needs TensorFlow Lite, NumPy and Pillow:\n\n{lines}"
    library = f"glibc {'.'.join(map(str, glibc()))}" if glibc() else "another C library than glibc"
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    return OWN_INTERPRETER.format(here=f"{python} of {32 if HAS_32_BITS else 64} bits with {library}")


def why_unfit() -> str:
    """Why the library beside this file can never run on this device; empty where it may."""
    if platform.machine() == "armv6l":
        return "this processor is an ARMv6, as of Raspberry Pi 1 and Zero, and has no NEON, which the library needs"
    if HAS_32_BITS and platform.machine() in ("armv7l", "armv8l", "aarch64"):
        with open(sys.executable, "rb") as file:
            if not int.from_bytes(file.read(40)[FLAGS], "little") & HARD_FLOAT:
                return "this Python is of a soft-float system (armel), and the library is for hard-float ones (armhf)"
    return ""


if why_unfit():
    sys.exit(f"{why_unfit()}: use another device or system")
try:
    try:
        from ai_edge_litert.interpreter import Interpreter, load_delegate
    except ImportError:
        from tflite_runtime import __version__ as older
        from tflite_runtime.interpreter import Interpreter, load_delegate

        if tuple(map(int, older.split(".")[:2])) < (2, 14):
            raise ImportError(f"tflite-runtime {older} takes no delegates of today's, 2.14.0 does") from None

    sys.dont_write_bytecode = True  # this folder stays as it was made
    from network import Network, Settings, add_options, end_with_reader, parse, run  # type: ignore[import-not-found]
except ImportError as missing:
    sys.exit(f"{missing}\n\n{how_to_install()}")

HERE = Path(__file__).resolve().parent
try:
    MANIFEST: dict[str, Any] = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    DIGESTS: dict[str, str] = dict(MANIFEST.get("sha256", {}))
    FILES: list[str] = list(MANIFEST.get("files", []))
    PROVEN = {str(package): list(map(str, versions)) for package, versions in dict(MANIFEST.get("proven", {})).items()}
    LABELS = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines() if (HERE / "labels.txt").exists() else []
    SETTINGS = Settings(
        dict(MANIFEST["preprocessing"]), MANIFEST["input_layout"] == "NCHW", LABELS, MANIFEST.get("head") == "argmax"
    )
except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as damage:
    sys.exit(f"bundle.json or labels.txt of {HERE} is damaged ({damage}): copy the bundle again")
# By the class and the machine of an ELF file.
MACHINES = {(1, 40): "32-bit ARM", (2, 183): "64-bit ARM", (2, 62): "x86-64"}
LIBRARY = "libbnncc_runtime.so"


def require_whole(*names: str) -> None:
    """Exit where a file of this folder is not the one that the bundle was made with."""
    for name in names:
        try:
            content = (HERE / name).read_bytes()
        except OSError as error:
            sys.exit(f"{HERE / name} cannot be read: {error.strerror}")
        if hashlib.sha256(content).hexdigest() != DIGESTS.get(name):
            sys.exit(f"{HERE / name} is damaged: its SHA-256 is not that of bundle.json; copy the bundle again")


def load_library(path: Path) -> Any:
    """The delegate; exits with what the trouble is where it cannot be loaded."""
    try:
        header = path.read_bytes()[:20]
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}")
    # ELF: the class (1: 32 bits) and the machine.
    made_for = MACHINES.get((header[4], header[18])) if header[:4] == b"\x7fELF" and len(header) == 20 else None
    try:
        ctypes.CDLL(str(path))  # LiteRT would print a traceback of its own where that fails
        return load_delegate(str(path))
    except (OSError, ValueError) as error:
        what = "damaged" if made_for is None else f"for {made_for}"
        here = f"{32 if sys.maxsize < 2**32 else 64}-bit Python on {platform.machine()}"
        sys.exit(
            f"{path.name} is {what}, and does not load in this {here}: {error}\n"
            "Make the bundle for this device: bnncc targets lists them."
        )


def open_network(threads: int) -> Network:
    """model.tflite in TensorFlow Lite, LCE's operators in the delegate beside it."""
    delegate = load_library(HERE / LIBRARY)
    try:
        interpreter = Interpreter(str(HERE / "model.tflite"), num_threads=threads, experimental_delegates=[delegate])
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        sys.exit(f"model.tflite does not run here: {error}")
    return Network(interpreter, SETTINGS)


def note_version() -> None:
    """Say so where the interpreter is in no version that the file was proven for."""
    for package, versions in PROVEN.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        if found not in versions:
            print(
                f"{package} {found} is installed; the file was proven for {' and '.join(versions)}: "
                "pip install -r requirements.txt",
                file=sys.stderr,
            )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, HERE / "check.npz")
    arguments = parse(parser)
    require_whole("model.tflite", LIBRARY, *(FILES if arguments.check else []))
    if arguments.check:
        note_version()
    sys.exit(run(open_network(arguments.threads), arguments))


if __name__ == "__main__":
    end_with_reader(main)
