"""`bnncc bundle` as a user meets it: what is in the folder, and that it is there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import click.testing
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from bnncc.bundle import check_data
from bnncc.bundle.android import picture_step
from bnncc.bundle.android_toolchain import ABIS
from bnncc.bundle.toolchain import LINUX
from bnncc.cli import main
from bnncc.data import Preprocessing
from bnncc.ir.input_spec import InputSpec
from bnncc.runtime.build import GLIBC
from bnncc.targets import TARGETS
from bnncc.targets.tflite.writer import ModelWriter
from tests.bundle import example
from tests.bundle.elf import MACHINES, PAGE, Elf, elf
from tests.needs import debian, need_zig, needs


def invoke(*arguments: object) -> click.testing.Result:
    result = click.testing.CliRunner().invoke(main, ["bundle", *(str(argument) for argument in arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.write_model(tmp_path_factory.mktemp("file"))


def stand_in(folder: Path, name: str, status: int = 0) -> Path:
    """A compiler that only records its arguments, and writes the file behind -o."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        f"pathlib.Path({str(folder / 'arguments')!r}).open('a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"if {status}:\n    sys.exit('no space left')\n"
        "pathlib.Path(sys.argv[sys.argv.index('-o') + 1]).write_bytes(b'GLIBC_2.34')\n"
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("has_int8", "has_delegate", "reference"), [(False, True, "LCE"), (True, True, "delegate"), (True, False, "LCE")]
)
def test_int8_files_are_compared_with_the_delegate_s_bytes(
    monkeypatch: pytest.MonkeyPatch, has_int8: bool, has_delegate: bool, reference: str
) -> None:
    """Kernels may be off by a step in each int8 layer: a device whose delegate is right would fail against LCE's."""
    spec = InputSpec("x", (1, 1, 2, 2))
    options = Mock(integers=Mock() if has_int8 else None, as_stored=lambda image: image)
    runners = {
        name: Mock(run=Mock(return_value=[np.full((1, 3), row)])) for row, name in enumerate(("LCE", "delegate"))
    }
    monkeypatch.setattr(check_data, "open_lce", lambda model, threads: runners["LCE"])
    monkeypatch.setattr(check_data, "open_litert", lambda model, threads: runners["delegate"])
    monkeypatch.setattr(check_data, "Runtime", Mock(LITERT=Mock(is_available=has_delegate)))
    made = check_data.make_check_data(Mock(inputs=(spec,), options=options, path=Path("net.tflite")), None)
    assert reference in made.reference
    assert np.unique(made.outputs).tolist() == [float(reference == "delegate")]


def test_every_target_has_a_bundle() -> None:
    assert {target.abi for target in TARGETS.values()} == {*LINUX, *ABIS} == set(MACHINES)


@pytest.mark.parametrize("target", ["raspberry-pi-4", "raspberry-pi-3-32bit"])
def test_a_raspberry_pi_gets_all_that_run_py_needs(file: Path, tmp_path: Path, target: str) -> None:
    need_zig()
    folder = tmp_path / "bundle"
    result = invoke(file, "--target", target, "-o", folder, "--data", example.IMAGES)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "bundle.json", "check.npz", "labels.txt", "libbnncc_runtime.so", "model.tflite", "network.py",
        "requirements.txt", "run.py",
    ]  # fmt: skip
    library = folder / "libbnncc_runtime.so"
    assert elf(library) == MACHINES[TARGETS[target].abi]
    assert set(re.findall(rb"lib[a-z+]+\.so\.\d", library.read_bytes())) == {b"libc.so.6", b"libpthread.so.0"}
    versions = re.findall(rb"GLIBC_([\d.]+)", library.read_bytes())
    assert max(tuple(map(int, version.split(b"."))) for version in versions) <= tuple(map(int, GLIBC.split(".")))
    assert all(segment.alignment % PAGE == 0 for segment in Elf(library).loaded())
    assert (folder / "model.tflite").read_bytes() == file.read_bytes()
    assert (folder / "labels.txt").read_text().splitlines() == list(example.CLASSES)
    assert json.loads((folder / "bundle.json").read_text())["preprocessing"]["crop"] == [28, 28]
    arrays = np.load(folder / "check.npz")
    assert arrays["images"].shape == (64, 28, 28, 1)
    assert arrays["outputs"].shape == (64, 10)
    assert np.mean(arrays["outputs"].argmax(axis=1) == arrays["labels"]) > 0.8
    readme = (folder / "README.md").read_text()
    install = readme.split("\n\n")[2].partition("    .venv/bin/python run.py image.jpg")[0]
    assert "pip install -r requirements.txt" in install
    assert install in (folder / "run.py").read_text()
    pins = (folder / "requirements.txt").read_text().splitlines()[1:]
    assert pins == (
        ["tflite-runtime==2.14.0"]
        if "32bit" in target
        else ['ai-edge-litert==2.1.0; python_version < "3.10"', 'ai-edge-litert==2.3.0; python_version >= "3.10"']
    )
    proven = json.loads((folder / "bundle.json").read_text())["proven"]
    assert {f"{name}=={version}" for name in proven for version in proven[name]} == {pin.split(";")[0] for pin in pins}
    assert max(map(len, readme.splitlines())) <= 120
    assert os.access(folder / "run.py", os.X_OK)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_file_s_own_target_is_the_default(file: Path, tmp_path: Path) -> None:
    need_zig()
    assert invoke(file, "-o", tmp_path / "bundle").exit_code == 0
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["target"] == "raspberry-pi-4"


def test_a_folder_with_something_in_it_stays(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    result = invoke(file, "-o", folder)
    assert result.exit_code == 2
    assert "--force replaces a bundle" in result.output
    result = invoke(file, "-o", folder, "--force")
    assert result.exit_code == 2
    assert "is no bundle" in result.output
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "thesis.tex"]


def test_an_older_bundle_is_replaced_whole(file: Path, tmp_path: Path) -> None:
    need_zig()
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("bundle.json", "old.txt"):
        (folder / name).write_text("{}")
    assert invoke(file, "-o", folder).exit_code == 2
    assert invoke(file, "-o", folder, "--force").exit_code == 0
    assert not (folder / "old.txt").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_nothing_is_left_where_the_compiler_fails(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    stand_in(tools, "aarch64-linux-gnu-g++", status=1)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    result = invoke(file, "-o", tmp_path / "bundle", "--compiler", "debian")
    assert result.exit_code == 2
    assert "no space left" in result.output
    assert list(tmp_path.iterdir()) == [tools]


def test_debian_s_compiler_is_called_for_the_target(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "arm-linux-gnueabihf-g++")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    arguments = (file, "-o", tmp_path / "bundle", "--compiler", "debian")
    result = invoke(*arguments, "--target", "raspberry-pi-4-32bit")
    assert result.exit_code == 0, result.output
    assert "glibc 2.34 or later" in (tmp_path / "bundle" / "README.md").read_text()
    called = (tmp_path / "arguments").read_text()
    assert "delegate.cc" in called
    assert "-mfpu=neon" in called
    assert "is for Linux" in invoke(*arguments, "--force", "--target", "android-arm64").output


@needs(shutil.which("aarch64-linux-gnu-g++"), debian("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"))
def test_debian_s_compiler_makes_the_library(file: Path, tmp_path: Path) -> None:
    assert invoke(file, "-o", tmp_path / "bundle", "--compiler", "debian").exit_code == 0
    assert elf(tmp_path / "bundle" / "libbnncc_runtime.so") == MACHINES["aarch64-linux-gnu"]


def test_an_ndk_is_called_for_the_abi(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    arguments = (file, "-o", tmp_path / "bundle", "--compiler", "ndk")
    assert "ANDROID_NDK_HOME" in invoke(*arguments, "--target", "android-arm64").output
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))
    assert "which has no toolchains/llvm" in invoke(*arguments, "--target", "android-arm64").output
    stand_in(tmp_path, "toolchains/llvm/prebuilt/linux-x86_64/bin/clang++")
    result = invoke(*arguments, "--target", "android-arm64")
    assert result.exit_code == 0, result.output
    delegate, program = (tmp_path / "arguments").read_text().splitlines()
    assert "--target=aarch64-linux-android24" in delegate
    assert "-shared" in delegate
    assert "jni.cc" in delegate
    assert "run.cc" in program
    assert "start.cc" not in program  # an NDK has its own
    assert "interpreter.cc" in program
    assert "-lm" in program.split()
    folder = tmp_path / "bundle"
    assert {"BnnccDelegate.kt", "BnnccPicture.kt"} < {path.name for path in folder.iterdir()}
    arguments = "rows = 28, columns = 28, channels = 1, resize = 28, bicubic = false, crop = true, divisor = 1f"
    assert f"val picture = BnnccPicture( {arguments} )" in " ".join((folder / "README.md").read_text().split())


def test_the_arguments_of_the_class_for_bitmaps_are_the_file_s_preprocessing() -> None:
    model = example.model()
    given = Preprocessing(resize=40, crop=(28, 28), mean=(0.1307,), std=(0.3081,), interpolation="bicubic")
    other = replace(model, options=replace(model.options, preprocessing=given))
    said = " ".join(picture_step(other).split())
    assert (
        "resize = 40, bicubic = true, crop = true, mean = floatArrayOf(0.1307f), std = floatArrayOf(0.3081f) )" in said
    )
    assert "divisor" not in said
    unsaid = replace(model, options=replace(model.options, preprocessing=Preprocessing()))
    assert picture_step(unsaid) == ""


def reverse_file(axes: Sequence[int]) -> bytes:
    writer = ModelWriter("test")
    x, y = (writer.tensor(name, (1, 4, 4, 1), np.float32) for name in "xy")
    operands = [x, writer.constant("axes", np.array(axes, np.int32))]
    writer.operator(schema.BuiltinOperator.REVERSE_V2, operands, [y], schema.ReverseV2OptionsT())
    return writer.finish([x], [y], ["x"], ["y"])


@pytest.mark.parametrize("target", ["raspberry-pi-4-32bit", "android-arm64"])
def test_what_tensorflow_lite_2_14_computes_wrongly_is_refused(tmp_path: Path, target: str) -> None:
    file = tmp_path / "reverse.tflite"
    file.write_bytes(reverse_file([1, 2]))
    result = invoke(file, "--target", target, "-o", tmp_path / "bundle")
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "operator 0 needs LiteRT 1.0 or later: REVERSE_V2 of several axes (older ones reverse one of them)" in said
    assert "compile the network for that target" in said
    assert list(tmp_path.iterdir()) == [file]


def test_a_reversed_axis_is_taken_and_a_file_of_no_metadata_needs_a_target(tmp_path: Path) -> None:
    need_zig()
    file = tmp_path / "reverse.tflite"
    file.write_bytes(reverse_file([1]))
    assert "give --target" in invoke(file, "-o", tmp_path / "bundle").output
    result = invoke(file, "-o", tmp_path / "bundle", "--target", "raspberry-pi-4-32bit")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "bundle" / "labels.txt").exists()
