"""The package bnncc-runtime, from its sources, with this machine's library beside them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnncc.options import FileMetadata
from bnncc.runtime.build import Platform
from bnncc.targets.tflite.digest import DIGEST_NAME, METADATA_NAME
from bnncc.targets.tflite.writer import pack, unpack
from tests.bundle import example
from tests.targets.interpreter import native

PACKAGE = Path(__file__).parent.parent.parent / "targets" / "bnncc_runtime" / "bnncc_runtime"
sys.path.append(str(PACKAGE.parent))

from bnncc_runtime.metadata import DamagedFileError, read_description  # noqa: E402


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for Python's path."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(PACKAGE, folder / "bnncc_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(native.library()._name, folder / "bnncc_runtime" / Platform.here().library)
    example.write_model(folder)
    return folder


def run(installed: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bnncc_runtime", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=installed, env=environment)


@pytest.mark.parametrize("interpreter", ["litert", "bnncc"])
def test_a_picture_s_class_is_printed_and_labels_are_compared(installed: Path, interpreter: str) -> None:
    picture = example.write_picture(installed / "boot.png")
    done = run(
        installed, "fashion.tflite", picture, "--check", example.IMAGES, "--top", 1, "--interpreter", interpreter
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split(maxsplit=1)[1] == "Ankle boot"
    assert "accuracy          91.90% (919 of 1,000)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["gone.tflite", "x.png"], "gone.tflite is no file"),
        (["fashion.tflite"], "name a picture"),
        (["damaged.tflite", "x.png"], "damaged.tflite: it is damaged: copy it again"),
        (["empty.tflite", "x.png"], "empty.tflite: it is damaged: copy it again"),
        (["fashion.tflite", "x.png"], "x.png"),
    ],
)
def test_what_is_wrong_is_one_line(installed: Path, arguments: list[str], text: str) -> None:
    content = example.content()
    (installed / "damaged.tflite").write_bytes(content[:5000] + b"x" + content[5001:])
    (installed / "empty.tflite").write_bytes(b"")
    done = run(installed, *arguments)
    assert done.returncode in (1, 2)
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_s_description_is_the_one_that_bnncc_reads() -> None:
    found = read_description(example.content())
    expected = FileMetadata.read(example.model().file)
    assert found["classes"] == list(expected.options.classes)
    assert found["preprocessing"] == expected.options.preprocessing.as_json()
    assert found["weights_sha256"] == expected.weights_sha256


def test_a_file_of_an_earlier_bnncc_which_wrote_no_digest_is_read() -> None:
    model = unpack(example.content())
    model.metadata = [entry for entry in model.metadata if entry.name == METADATA_NAME.encode()]
    found = read_description(pack(model))
    assert found == read_description(example.content())
    with pytest.raises(DamagedFileError):
        read_description(pack(model) + DIGEST_NAME.encode())


def test_no_damage_is_taken_for_a_file() -> None:
    draw, content = random.Random(0), example.content()
    for _ in range(200):
        damaged = bytearray(content)
        if draw.random() < 0.3:
            del damaged[draw.randrange(len(damaged)) :]
        else:
            at = draw.choice(
                [draw.randrange(64), draw.randrange(len(damaged)), len(damaged) - 1 - draw.randrange(3000)]
            )
            damaged[at] ^= 1 << draw.randrange(8)
        with contextlib.suppress(DamagedFileError):
            assert read_description(bytes(damaged)) == {}  # its very name is damaged


def test_the_interpreter_refuses_arrays_that_do_not_fit() -> None:
    runner = native.InterpreterRunner(example.content())
    with pytest.raises(ValueError, match=r"the input is float32 \(1, 28, 28, 1\), not float32 \(1, 28, 28\)"):
        runner.run([np.zeros((1, 28, 28), np.float32)])
