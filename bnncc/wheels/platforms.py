"""Which wheels there are, and their platform tags (PEP 600, PEP 656)."""

from __future__ import annotations

from bnncc.runtime.build import GLIBC, MACOS, PLATFORMS, Platform

# The oldest musl: Alpine Linux 3.13.
MUSL = "1.2"
# What wheels call the machines.
MACHINES = {"armv7": "armv7l"}
MAC_MACHINES = {"aarch64": "arm64"}
# For these there are PyTorch, ONNX Runtime and LiteRT.
COMPILER_PLATFORMS = (Platform("x86_64"), Platform("aarch64"), Platform("aarch64", "macos"))
# LiteRT has no wheel for musl, which the markers of a requirement cannot say.
WITHOUT_LITERT = tuple(target for target in PLATFORMS if target.system == "musl")

# Raspberry Pi OS of 32 bits has a kernel of 64, whose machine is what the markers of a requirement tell.
KERNEL_MAY_DIFFER = {Platform("armv7"): "armv7l"}


def tag(target: Platform) -> str:
    """The platform's part of a wheel's name."""
    if target.system == "windows":
        return "win_amd64"
    if target.system == "macos":
        return f"macosx_{_joined(MACOS)}_{MAC_MACHINES.get(target.machine, target.machine)}"
    machine = MACHINES.get(target.machine, target.machine)
    if target.system == "musl":
        return f"musllinux_{_joined(MUSL)}_{machine}"
    return f"manylinux_{_joined(GLIBC)}_{machine}.manylinux2014_{machine}"


def _joined(version: str) -> str:
    return version.replace(".", "_")
