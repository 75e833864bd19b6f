"""Which libraries may be loaded into this process, and what is known of a file before it is.

A library runs as whoever loads it.  So one from the cache is loaded only where no other user could have put it there,
and where it is, to the bit, the one that was built.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
from pathlib import Path

from bnncc.runtime.build import Platform

# The e_machine of an ELF header (System V ABI) for each machine, with its class: 1 for 32 bits, 2 for 64.
ELF_MACHINES = {"x86_64": (2, 62), "aarch64": (2, 183), "armv7": (1, 40)}
ELF_NAMES = {3: "x86", 8: "MIPS", 21: "PowerPC", 22: "S/390", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
# What no other library has.
SYMBOL = b"bnncc_kernel_name"


def written_by_others(path: Path) -> str | None:
    """Why another user could have written the file `path`; None where none could but root.

    The file and every folder above it belong to this user or root, and nobody else may write there; in a sticky folder,
    such as /tmp, nobody can replace what is another's.  A symbolic link is judged by what it names.
    """
    try:
        real = Path(os.path.realpath(path))
        for place in (real, *real.parents):
            found = place.lstat()
            if found.st_uid not in (os.geteuid(), 0):
                return f"{place} belongs to another user"
            is_sticky_folder = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
            others = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_own_group(found.st_gid))
            if others and not is_sticky_folder:
                return f"others may write to {place} (mode {stat.S_IMODE(found.st_mode):o})"
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    return None


def _is_own_group(number: int) -> bool:
    """True for root's group, and for the one of the user's name, without others, that many systems give each user."""
    if number == 0:
        return True
    try:
        group, user = grp.getgrgid(number), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and user.pw_gid == number and set(group.gr_mem) <= {user.pw_name}


def digest_path(library: Path) -> Path:
    """Where the digest of a built library is kept."""
    return library.with_name(library.name + ".sha256")


def digest_of(library: Path) -> str:
    """sha256 of its bytes, in hexadecimal."""
    return hashlib.sha256(library.read_bytes()).hexdigest()


def is_as_built(library: Path) -> bool:
    """True where the library is there and has the digest that was written when it was built."""
    if not (library.is_file() and digest_path(library).is_file()):  # reading a pipe or a device may never end
        return False
    try:
        return digest_path(library).read_text(encoding="ascii").strip() == digest_of(library)
    except (OSError, ValueError):
        return False


def why_no_delegate(path: Path, target: Platform) -> str | None:
    """Why `path` is no delegate for `target`, told from its bytes; None where it is one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if target.system in ("linux", "musl"):
        if content[:4] != b"\x7fELF" or len(content) < 20:
            return "it is no shared library"
        kind, code = content[4], int.from_bytes(content[18:20], "little" if content[5] == 1 else "big")
        if (kind, code) != ELF_MACHINES[target.machine]:
            made_for = ELF_NAMES.get(code, f"machine {code}")
            return f"it is for {made_for}, {32 * kind} bits, and this machine is {target.machine}"
    if SYMBOL not in content:
        return "it is another library than bnncc's delegate"
    return None
