"""The hand-written header against TensorFlow Lite's, field by field.

Needs the folder that `python -m tests.targets.runtime.sysroot DIR` makes, named by the environment variable
BNNCC_SYSROOTS; for 32-bit ARM the package ziglang as well.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from bnncc.runtime import Platform
from bnncc.runtime.build import compiler, source_folder

FOLDER = os.environ.get("BNNCC_SYSROOTS")
HAS_ZIG = importlib.util.find_spec("ziglang") is not None


@pytest.mark.skipif(not FOLDER, reason="needs BNNCC_SYSROOTS")
@pytest.mark.parametrize(
    "machine", ["here", pytest.param("armv7", marks=pytest.mark.skipif(not HAS_ZIG, reason="needs ziglang"))]
)
def test_every_offset_is_tensorflow_lite_s(machine: str, tmp_path: Path) -> None:
    assert FOLDER is not None
    target = Platform.here() if machine == "here" else Platform(machine)
    folders = [source_folder(), Path(FOLDER) / "headers"]
    includes = [f"-I{folder}" for folder in folders]
    command = [
        *compiler(target), "-std=c++17", "-Wno-invalid-offsetof", *includes, "-c",
        str(Path(__file__).with_name("abi_check.cc")), "-o", str(tmp_path / "abi_check.o"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
