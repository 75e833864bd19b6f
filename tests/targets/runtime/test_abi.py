"""The hand-written header against TensorFlow Lite's, field by field.

Needs the folder that `python -m tests.targets.runtime.sysroot DIR` makes, named by the environment variable
BNNCC_SYSROOTS; for 32-bit ARM the package ziglang as well.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bnncc.runtime import Platform
from bnncc.runtime.build import compiler, source_folder
from tests.needs import SYSROOTS, needs_sysroots, needs_zig


@needs_sysroots
@pytest.mark.parametrize("machine", ["here", pytest.param("armv7", marks=needs_zig)])
def test_every_offset_is_tensorflow_lite_s(machine: str, tmp_path: Path) -> None:
    assert SYSROOTS
    target = Platform.here() if machine == "here" else Platform(machine)
    folders = [source_folder(), Path(SYSROOTS) / "headers"]
    includes = [f"-I{folder}" for folder in folders]
    with_library = {"cc": "c++"}  # of C++, which TensorFlow Lite's headers include
    command = [
        *(with_library.get(word, word) for word in compiler(target)), "-std=c++17", "-Wno-invalid-offsetof", *includes,
        "-c", str(Path(__file__).with_name("abi_check.cc")), "-o", str(tmp_path / "abi_check.o"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
