"""What the packing of signs makes of zeros, denormals and NaN, and that it compares no scalars on 32-bit ARM."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bnncc.runtime import LitertRunner
from bnncc.runtime.build import flags, source_folder
from bnncc.targets.tflite.emit import emit
from tests.needs import debian, need_zig, needs
from tests.passes.helpers import build
from tests.targets.interpreter.native import InterpreterRunner

GCC = "arm-linux-gnueabihf-g++"
TINY = float(np.finfo(np.float32).tiny)
PLUS = (0.0, -0.0, np.nan, -np.nan, 1e-45, -1e-45, -TINY / 2, TINY, 1.0, np.inf)
MINUS = (-TINY, -1.0, -3.4e38, -np.inf)


@pytest.mark.parametrize("channels", [len(PLUS + MINUS), 32, 64, 80])
def test_zeros_denormals_and_nan_are_plus_one_in_every_floating_point_mode(channels: int) -> None:
    """LiteRT leaves denormals on, bnncc's interpreter turns them off; a word of 32 channels and what is left of one."""
    need_zig()
    x = np.resize(np.array(PLUS + MINUS, np.float32), (1, 2, 3, channels))
    wanted = np.resize(np.array([1] * len(PLUS) + [-1] * len(MINUS), np.float32), x.shape)
    content = emit(build("y = bnncc.Sign (x)", f"float[1, {channels}, 2, 3] x"))
    for runner in (LitertRunner(content), InterpreterRunner(content)):
        np.testing.assert_array_equal(runner.run([x])[0], wanted)


@needs(shutil.which(GCC), debian(GCC, "g++-arm-linux-gnueabihf"))
def test_gcc_packs_signs_by_vectors_on_32_bit_arm(tmp_path: Path) -> None:
    source = tmp_path / "signs.cc"
    kernels = source_folder() / "kernels"
    source.write_text(
        f'#include <arm_neon.h>\n#include "{kernels}/kernels.h"\nnamespace bnncc {{\n#include "{kernels}/neon.h"\n'
        "uint32_t signs(const float* x);\nuint32_t signs(const float* x) { return sign_word(x); }\n}\n"
    )
    machine = ["-march=armv7-a", "-mfpu=neon", "-marm"]
    command = [GCC, *flags(), *machine, "-Wno-unused-function", "-S", str(source), "-o", "-"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"\bvcmpe?\.f32", text) == []
    assert len(re.findall(r"\bvc(?:ge|le)\.u32", text)) == 8
