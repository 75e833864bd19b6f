"""LiteRT's CompiledModel with the delegate: as an accelerator, because a CompiledModel takes no delegates.

LiteRT loads accelerators by their file names, from a folder that its environment names.  The library's side of it is
`targets/runtime/accelerator.cc`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

# The name under which LiteRT looks for an accelerator of its users, without the ending of the system's libraries.
ACCELERATOR = "libLiteRtGpuAccelerator"
# Of LiteRT: the first whose accelerators have a version and a size that can be relied upon.
OLDEST = (2, 2)
PACKAGES = ("ai-edge-litert", "ai-edge-litert-nightly")
# Linux on 64-bit ARM: the auxiliary vector's entry of the processor's features, and the bit of LSE (ARMv8.1's atomics).
AT_HWCAP, HWCAP_ATOMICS = 16, 1 << 8


def accelerated_environment(library: Path) -> Any:
    """An `ai_edge_litert.environment.Environment` whose models run LCE's operators in the delegate `library`.

    The delegate takes as many threads as the model's options say (`CpuOptions.num_threads`).  LiteRT takes one
    accelerator of this kind: its own for GPUs is not in this environment.  ImportError where LiteRT 2.2 or later is not
    installed.  RuntimeError on a processor on which LiteRT's CompiledModel ends the process, whoever uses it.
    """
    _require_litert()
    _require_atomics()
    from ai_edge_litert.environment import Environment

    with tempfile.TemporaryDirectory(prefix="bnncc-", ignore_cleanup_errors=True) as folder:
        link = Path(folder) / f"{ACCELERATOR}{library.suffix}"
        if sys.platform == "win32":  # links are for administrators
            shutil.copyfile(library, link)
        else:
            os.symlink(library.absolute(), link)
        return Environment.create(runtime_path=folder)  # loads it; the folder is not looked at later


def _require_litert() -> None:
    versions = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(importlib.metadata.version(package))
    if not any(tuple(map(int, version.split(".")[:2])) >= OLDEST for version in versions):
        found = f", not {versions[0]}" if versions else ""
        oldest = ".".join(map(str, OLDEST))
        raise ImportError(f"a CompiledModel with bnncc's delegate needs ai-edge-litert {oldest} or later{found}")


def _require_atomics() -> None:
    """LiteRT looks for its accelerator for GPUs as well, and the one of its wheels for Linux ends a process without."""
    if sys.platform != "linux" or platform.machine() != "aarch64":
        return
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    if not getauxval(AT_HWCAP) & HWCAP_ATOMICS:
        raise RuntimeError(
            "ai-edge-litert's CompiledModel ends the process on a processor without ARMv8.1's atomics, as those of "
            "Raspberry Pi 3, 4 and Zero 2: use its Interpreter, with load_delegate()"
        )
