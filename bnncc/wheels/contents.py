"""A wheel for a platform: the files of a wheel of Python alone, and what was compiled for the platform."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipInfo

from wheel.wheelfile import WheelFile

PROGRAM_MODE = 0o100755
# The last condition of a requirement, and the machine that it is of.
MACHINE_CONDITION = re.compile(r""" and platform_machine == ["'](\w+)["']""")


def write_platform_wheel(
    pure: Path,
    tag: str,
    files: Mapping[str, bytes],
    programs: Mapping[str, bytes],
    without: Iterable[str],
    folder: Path,
    machine: str = "",
) -> Path:
    """Write the wheel for the platform `tag` to `folder`; its path.  The wheel's RECORD is made anew.

    Args:
        pure: a wheel "py3-none-any".
        tag: platform tags, with dots between them.
        files: by their paths in the wheel.
        programs: by their names; pip puts them beside Python.
        without: the names of requirements to leave out.
        folder: where the wheel goes.
        machine: of the platform, where `platform_machine` in requirements says the kernel's instead of Python's own, as
            on 32-bit Raspberry Pi OS, whose kernel has 64 bits: requirements of other machines are left out, and
            those of this one hold on every kernel.
    """
    name = pure.name.removesuffix("-any.whl") + f"-{tag}.whl"
    # An older one is replaced, not added to.
    (folder / name).unlink(missing_ok=True)
    with WheelFile(pure) as source, WheelFile(folder / name, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == source.record_path:
                continue
            if entry.filename == f"{source.dist_info_path}/WHEEL":
                content = _with_tags(content, tag)
            elif entry.filename == f"{source.dist_info_path}/METADATA":
                content = _without_requirements(content, tuple(without))
                content = _for_machine(content, machine) if machine else content
            target.writestr(entry, content)
        data = source.dist_info_path.removesuffix(".dist-info") + ".data/scripts"
        for path, content in {**files, **{f"{data}/{name}": program for name, program in programs.items()}}.items():
            entry = ZipInfo(path, date_time=pure_date(source))
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = PROGRAM_MODE << 16
            target.writestr(entry, content)
    return folder / name


def pure_date(wheel: WheelFile) -> tuple[int, int, int, int, int, int]:
    """The date of a wheel's files, which those that are added take as well."""
    date: tuple[int, int, int, int, int, int] = max(entry.date_time for entry in wheel.infolist())
    return date


def _with_tags(content: bytes, tag: str) -> bytes:
    """The file WHEEL of a wheel for a platform: it is not pure, and has a line for each tag."""
    message = email.message_from_bytes(content, policy=email.policy.compat32)
    message.replace_header("Root-Is-Purelib", "false")
    del message["Tag"]
    for one in tag.split("."):
        message["Tag"] = f"py3-none-{one}"
    return message.as_bytes()


def _without_requirements(content: bytes, names: tuple[str, ...]) -> bytes:
    """The file METADATA without the requirements of these names."""
    lines = content.decode().splitlines(keepends=True)
    left_out = tuple(f"Requires-Dist: {name}" for name in names)
    return "".join(line for line in lines if not names or not line.startswith(left_out)).encode()


def _for_machine(content: bytes, machine: str) -> bytes:
    """The file METADATA with the requirements of `machine`, without their condition, and of none other."""
    kept = []
    for line in content.decode().splitlines(keepends=True):
        found = MACHINE_CONDITION.search(line) if line.startswith("Requires-Dist:") else None
        if found is None or found[1] == machine:
            kept.append(line if found is None else line.replace(found[0], ""))
    return "".join(kept).encode()
