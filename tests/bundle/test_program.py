"""The program of an Android bundle, built for this machine: it knows a damaged copy of its network by its digest."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bnncc.bundle.check_data import make_check_data
from bnncc.inference import Model
from bnncc.runtime.build import Platform, compiler, flags, program_sources, sources
from bnncc.targets.tflite.digest import DIGEST_NAME, METADATA_NAME
from bnncc.targets.tflite.writer import pack, unpack
from tests.bundle import example
from tests.targets.interpreter.native import cached

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the program needs beside it."""
    return shell_folder(example.model(), tmp_path_factory.mktemp("shell"))


def shell_folder(model: Model, folder: Path) -> Path:
    code = map(str, (*sources(), *program_sources()))
    libraries = ["-nodefaultlibs", "-lpthread", "-lm", "-lc", "-lgcc"]
    program = cached("bnncc_run", *compiler(Platform.here()), *flags(), *code, *libraries, "-o", "$OUT")
    shutil.copy2(program, folder / "bnncc_run")
    data = make_check_data(model, str(example.IMAGES))
    (folder / "model.tflite").write_bytes(model.content)
    np.save(folder / "check_images.npy", data.images)
    np.save(folder / "check_outputs.npy", data.outputs)
    return folder


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / "bnncc_run", "--check"], capture_output=True, text=True, check=False)


def test_a_whole_file_passes(folder: Path) -> None:
    done = check(folder)
    assert done.returncode == 0, done.stderr
    assert "same outputs      64 of 64 images" in done.stdout


@pytest.mark.parametrize("ends", [example.PIXELS_TO_BYTES, example.PIXELS_TO_CLASS])
def test_files_that_take_bytes_and_yield_bytes_or_a_class(ends: example.Ends, tmp_path: Path) -> None:
    folder = shell_folder(example.model(ends=ends), tmp_path)
    done = check(folder)
    assert done.returncode == 0, done.stderr
    assert "same outputs      64 of 64 images" in done.stdout
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in example.CLASSES))
    command = [folder / "bnncc_run", folder / "check_images.npy", "--top", "1"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    *score, name = lines[1].strip().split(maxsplit=1 if ends.head == "softmax" else 0)
    assert name == "Ankle boot"
    assert all(0.9 < float(text) < 1 for text in score)  # a probability, not the byte that stands for it
    np.save(folder / "floats.npy", np.zeros((1, 28, 28, 1), np.float32))
    done = subprocess.run([command[0], folder / "floats.npy"], capture_output=True, text=True, check=False)
    assert f"does not hold {ends.input_type} in C order" in done.stderr


def test_any_other_byte_is_known(folder: Path, tmp_path: Path) -> None:
    content = (folder / "model.tflite").read_bytes()
    for path in folder.iterdir():
        shutil.copy2(path, tmp_path)
    rng = random.Random(0)
    cuts = [content[:size] for size in (0, 1, 7, 100, len(content) // 2, len(content) - 1)]
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        cuts.append(bytes(damaged))
    model = unpack(content)
    model.metadata = [entry for entry in model.metadata if entry.name == METADATA_NAME.encode()]
    earlier = pack(model)  # of a version that wrote no digest
    (tmp_path / "model.tflite").write_bytes(earlier)
    assert check(tmp_path).returncode == 0
    for damaged in (*cuts, content + b"\0", earlier + DIGEST_NAME.encode()):
        (tmp_path / "model.tflite").write_bytes(damaged)
        done = check(tmp_path)
        assert done.returncode == 2
        assert "model.tflite is damaged" in done.stderr
