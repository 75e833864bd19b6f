"""What a bundle's libraries and programs are for, by ELF's header."""

from __future__ import annotations

from pathlib import Path

# By ABI: ELF's number of the machine, and whether its words have 64 bits.
MACHINES = {
    "aarch64-linux-gnu": (183, True),
    "arm-linux-gnueabihf": (40, False),
    "arm64-v8a": (183, True),
    "armeabi-v7a": (40, False),
}


def elf(path: Path) -> tuple[int, bool]:
    """The machine's number, and whether words have 64 bits."""
    header = path.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    return int.from_bytes(header[18:20], "little"), header[4] == 2
