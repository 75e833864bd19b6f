"""The trained networks of examples/papers, whole, on emulated ARM processors: they name the classes that LCE names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bnncc.runners import LceRunner
from tests.targets.runtime.test_emulated import HAS_ZIG, run_there
from tests.test_papers import IMAGES, SMALL, compiled_small

COUNT = 4
# Where a rounding flips a sign, the logits move; more than one image of these would be no chance.
MOST_MOVED = 1


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("BNNCC_SYSROOTS") or not HAS_ZIG, reason="needs BNNCC_SYSROOTS and ziglang")
@pytest.mark.parametrize(("machine", "processor"), [("aarch64", "cortex-a72"), ("armv7", "cortex-a7")])
def test_every_small_form_yields_there_what_lces_interpreter_yields_here(
    machine: str, processor: str, tmp_path: Path
) -> None:
    with np.load(IMAGES) as data:
        images = data["images"][:COUNT].astype(np.float32).reshape(COUNT, 1, 28, 28, 1)
    files = [(compiled_small(name).content, image) for name in SMALL for image in images]
    found = np.concatenate(run_there(files, machine, processor, None, tmp_path))
    expected = np.concatenate([LceRunner(content, fastest=True).run([image])[0] for content, image in files])
    errors = np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)
    for index, name in enumerate(SMALL):
        rows = slice(index * COUNT, (index + 1) * COUNT)
        assert np.array_equal(found[rows].argmax(axis=1), expected[rows].argmax(axis=1)), name
        assert np.sum(errors[rows] > 1e-4) <= MOST_MOVED, name
