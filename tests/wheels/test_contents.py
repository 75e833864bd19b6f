"""What a wheel for a platform holds, read as pip reads it."""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import io
import re
import sys
from pathlib import Path
from zipfile import ZipFile

import packaging.tags
import packaging.utils
import pytest
from packaging.requirements import Requirement
from wheel.wheelfile import WheelFile

from bnncc.runtime.build import PLATFORMS, BuildError, Platform
from bnncc.wheels.__main__ import RUNTIME
from bnncc.wheels.contents import write_platform_wheel
from bnncc.wheels.native import check_glibc
from bnncc.wheels.platforms import COMPILER_PLATFORMS, KERNEL_MAY_DIFFER, tag

METADATA = (
    "Metadata-Version: 2.4\nName: a\nVersion: 1.0\nRequires-Dist: numpy>=1.22\n"
    "Requires-Dist: ai-edge-litert<3,>=2; sys_platform == 'linux'\n\nRequires-Dist: in its description\n"
)


@pytest.fixture
def pure(tmp_path: Path) -> Path:
    """A wheel of Python alone."""
    path = tmp_path / "a-1.0-py3-none-any.whl"
    with WheelFile(path, "w") as wheel:
        wheel.writestr("a/__init__.py", "x = 1\n")
        wheel.writestr("a-1.0.dist-info/METADATA", METADATA)
        wheel.writestr(
            "a-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
    return path


def write(pure: Path, target: Platform, *without: str) -> Path:
    files, programs = {"a/lib.so": b"\x7fELF" * 100}, {target.program: b"program"}
    return write_platform_wheel(pure, tag(target), files, programs, without, pure.parent)


@pytest.mark.parametrize("target", PLATFORMS, ids=str)
def test_the_record_of_a_platform_s_wheel_names_every_file_with_its_digest(pure: Path, target: Platform) -> None:
    with ZipFile(write(pure, target)) as wheel:
        rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(wheel.read("a-1.0.dist-info/RECORD").decode()))}
        assert sorted(rows) == sorted(wheel.namelist())
        assert f"a-1.0.data/scripts/{target.program}" in rows
        for name, (digest, size) in rows.items():
            if name.endswith("/RECORD"):
                continue
            expected = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={expected}", len(wheel.read(name)))


@pytest.mark.parametrize("target", PLATFORMS, ids=str)
def test_the_tags_of_the_name_are_those_inside(pure: Path, target: Platform) -> None:
    path = write(pure, target)
    _, _, _, tags = packaging.utils.parse_wheel_filename(path.name)
    with ZipFile(path) as wheel:
        lines = wheel.read("a-1.0.dist-info/WHEEL").decode().splitlines()
        assert wheel.getinfo(f"a-1.0.data/scripts/{target.program}").external_attr >> 16 & 0o777 == 0o755
    assert {line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: ")} == set(map(str, tags))
    assert "Root-Is-Purelib: false" in lines


def test_each_platform_has_tags_of_its_own() -> None:
    assert len({tag(target) for target in PLATFORMS}) == len(PLATFORMS)
    assert set(COMPILER_PLATFORMS) <= set(PLATFORMS)


@pytest.mark.skipif(sys.platform != "linux", reason="tags of Linux")
def test_pip_takes_the_wheel_for_this_machine_before_the_one_of_python_alone(pure: Path) -> None:
    supported = list(packaging.tags.sys_tags())
    here = packaging.tags.parse_tag(f"py3-none-{tag(Platform.here())}")
    others = {
        one
        for target in PLATFORMS
        if target != Platform.here()
        for one in packaging.tags.parse_tag(f"py3-none-{tag(target)}")
    }
    assert here <= set(supported)
    assert not others & set(supported)
    (anywhere,) = packaging.tags.parse_tag("py3-none-any")
    assert max(map(supported.index, here)) < supported.index(anywhere)


def test_a_requirement_without_wheels_is_left_out_where_it_is_named(pure: Path) -> None:
    for without, expected in (
        ((), METADATA),
        (("ai-edge-litert",), METADATA.replace(METADATA.splitlines()[4] + "\n", "")),
    ):
        with ZipFile(write(pure, Platform("x86_64", "musl"), *without)) as wheel:
            assert wheel.read("a-1.0.dist-info/METADATA").decode() == expected


def test_a_32_bit_wheel_requires_the_same_on_a_kernel_of_64_bits(tmp_path: Path) -> None:
    """`platform_machine` is "aarch64" there, for which LiteRT has no wheel of 32 bits."""
    dependencies = re.findall(r'^    "(.+)",$', (RUNTIME / "pyproject.toml").read_text(), re.MULTILINE)
    path = tmp_path / "a-1.0-py3-none-any.whl"
    with WheelFile(path, "w") as wheel:
        lines = "".join(f"Requires-Dist: {Requirement(text)}\n" for text in dependencies)
        wheel.writestr("a-1.0.dist-info/METADATA", f"Name: a\nVersion: 1.0\n{lines}")
        wheel.writestr("a-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    target = Platform("armv7")
    written = write_platform_wheel(path, tag(target), {}, {}, (), tmp_path, KERNEL_MAY_DIFFER[target])
    with ZipFile(written) as wheel:
        found = email.message_from_bytes(wheel.read("a-1.0.dist-info/METADATA")).get_all("Requires-Dist")
    for machine in ("armv7l", "aarch64"):
        for version, expected in (("3.11", {"numpy", "pillow", "tflite-runtime"}), ("3.13", {"numpy", "pillow"})):
            here = {"platform_machine": machine, "python_version": version, "sys_platform": "linux"}
            wanted = [Requirement(text) for text in found or []]
            assert {one.name for one in wanted if one.marker is None or one.marker.evaluate(here)} == expected


def test_a_library_that_needs_a_later_glibc_than_its_tag_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(b"\x7fELF\0GLIBC_2.2.5\0GLIBC_2.17\0")
    check_glibc(path)
    path.write_bytes(b"\x7fELF\0GLIBC_2.9\0GLIBC_2.34\0")
    with pytest.raises(BuildError, match=r"lib\.so needs glibc 2\.34, and the tag of its wheel promises 2\.17"):
        check_glibc(path)
