"""For which platform this Python is, told by what it says of itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bnncc.runtime import BuildError, Platform
from bnncc.runtime.build import PLATFORMS, compile_library

HARD, SOFT = 0x5000400, 0x5000200


@pytest.mark.parametrize(
    ("machine", "bits", "libc", "flags", "expected"),
    [
        ("x86_64", 64, "glibc", 0, Platform("x86_64")),
        ("aarch64", 64, "glibc", 0, Platform("aarch64")),
        ("aarch64", 64, "", 0, Platform("aarch64", "musl")),
        ("aarch64", 64, "musl", 0, Platform("aarch64", "musl")),  # as Python 3.14 says it
        ("aarch64", 32, "glibc", HARD, Platform("armv7")),  # Raspberry Pi OS of 32 bits, by default
        ("armv7l", 32, "glibc", HARD, Platform("armv7")),
        ("armv7l", 32, "", HARD, Platform("armv7", "musl")),
        ("armv8l", 32, "glibc", HARD, Platform("armv7")),
        ("armv7l", 32, "glibc", SOFT, "linux armv7l with soft float"),  # Debian's armel
        ("armv6l", 32, "glibc", HARD, "linux armv6l"),  # Raspberry Pi 1 and Zero
        ("x86_64", 32, "glibc", 0, "linux i686"),
    ],
)
def test_this_machine_is_a_platform_or_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    machine: str,
    bits: int,
    libc: str,
    flags: int,
    expected: Platform | str,
) -> None:
    python = tmp_path / "python"
    python.write_bytes(b"\x7fELF".ljust(36, b"\0") + flags.to_bytes(4, "little"))
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "maxsize", 2 ** (bits - 1) - 1)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: (libc, ""))
    if isinstance(expected, Platform):
        assert Platform.here() == expected
    else:
        with pytest.raises(BuildError, match=f"not for {expected}$"):
            Platform.here()


def test_a_library_for_macos_has_no_path_of_the_machine_that_it_was_made_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setitem(compile_library.__globals__, "call", commands.append)
    for target in PLATFORMS:
        compile_library(["c++"], target, tmp_path / target.library)
        named = [word for word in commands[-1] if "install_name" in word]
        assert named == (["-Wl,-install_name,@rpath/libbnncc_runtime.dylib"] if target.system == "macos" else [])
