"""Bundles on emulated ARM processors, made with nothing but pip's packages.

Needs the folder that `python -m tests.targets.runtime.sysroot DIR` makes, named by the environment variable
BNNCC_SYSROOTS; what else a device would have is put there too (Pillow by pip, TensorFlow Lite for Android by npm).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click.testing
import numpy as np
import pytest
from PIL import Image

from bnncc.bundle import android_toolchain, write_bundle
from bnncc.bundle.android import SHELL_FILES
from bnncc.bundle.raspberry_pi import FILES as RASPBERRY_PI
from bnncc.cli import main
from bnncc.data import Preprocessing
from bnncc.ir.modes import Padding
from bnncc.runtime import Platform
from bnncc.targets import find_target
from tests.bundle import android_emulation, example
from tests.bundle.elf import MACHINES, Elf, assert_that_it_loads_on_pages_of_16_kib, elf
from tests.needs import SYSROOTS, debian, need, need_zig, needs, needs_sysroots
from tests.targets.interpreter.native import InterpreterRunner
from tests.targets.runtime import sysroot
from tests.wheels.quick_wheel import write_wheel

PROGRAMS = [machine.qemu for machine in sysroot.MACHINES.values()]
pytestmark = [
    pytest.mark.slow,
    needs_sysroots,
    needs(all(map(shutil.which, PROGRAMS)), debian("qemu", "qemu-user-static")),
]
CHECK_FAILED = 3
# Puts Pillow, which lies in a folder of its own, in the path; then runs run.py as a user does.
START = (
    "import os, runpy, sys; sys.path.append(sys.argv[1]); del sys.argv[:2]; "
    "sys.path.insert(0, os.path.dirname(sys.argv[0])); runpy.run_path(sys.argv[0], None, '__main__')"
)
# Runs bnncc-runtime as `python -m bnncc_runtime` does, with folders in the path.
START_PACKAGE = (
    "import runpy, sys; sys.path[:0] = sys.argv.pop(1).split(':'); "
    "runpy.run_module('bnncc_runtime', run_name='__main__', alter_sys=True)"
)


def sysroots() -> Path:
    assert SYSROOTS
    return Path(SYSROOTS)


@pytest.fixture(scope="module")
def pillow() -> Path:
    """Pillow for aarch64."""
    folder = sysroots() / "aarch64-pillow"
    with android_emulation.alone(sysroots()):
        if folder.is_dir():
            return folder
        partial = sysroots() / ".aarch64-pillow"
        shutil.rmtree(partial, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(partial), "--no-deps"]
        for platform in ("manylinux_2_27_aarch64", "manylinux_2_28_aarch64"):
            command += ["--platform", platform]
        subprocess.run([*command, "--python-version", "3.11", "--only-binary=:all:", "pillow"], check=True)
        partial.rename(folder)
    return folder


@pytest.mark.parametrize("padding", [Padding.ONE_PADDED, Padding.MIRRORED])
def test_a_raspberry_pi_prints_the_class_of_a_picture(pillow: Path, tmp_path: Path, padding: Padding) -> None:
    need_zig()
    folder = tmp_path / "bundle"
    write_bundle(example.model(padding), find_target("raspberry-pi-4"), folder, data=str(example.IMAGES))
    picture = example.write_picture(tmp_path / "image.png")
    arguments = ["-c", START, str(pillow), str(folder / "run.py")]
    shown = sysroot.run(
        sysroots(), "aarch64", [*arguments, str(picture), "--top", "1", "--check", "--bench", "--runs", "3"]
    )
    assert shown.split(maxsplit=2)[2].startswith("Ankle boot\n")
    assert "same outputs      64 of 64 images" in shown
    assert "median of 3 runs" in shown


# Saves the pixels that network.py makes of pictures: of each the path, the network's input, its preprocessing.
PIXELS = """\
import json, runpy, sys

sys.path.append(sys.argv[1])
import numpy as np

load = runpy.run_path(sys.argv[2], run_name="network")["load_picture"]
pictures = json.loads(sys.argv[4])
np.savez(sys.argv[3], *[load(path, tuple(shape), preprocessing) for path, shape, preprocessing in pictures])
"""


def test_a_picture_becomes_the_same_bytes_on_a_raspberry_pi(pillow: Path, tmp_path: Path) -> None:
    """As here, where they are torchvision's (tests/data/test_preprocessing.py): decoded, resized and cropped."""
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (7, 9, 3), np.uint8)).resize((211, 157), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "smooth.jpg", quality=85)
    Image.fromarray(random.integers(0, 256, (97, 131, 3), np.uint8)).save(tmp_path / "noise.png")
    arguments, expected = [], []
    for name in ("smooth.jpg", "noise.png"):
        for interpolation, channels in (("bilinear", 3), ("bicubic", 3), ("bilinear", 1)):
            preprocessing = Preprocessing(resize=64, crop=(56, 60), interpolation=interpolation)
            arguments.append((str(tmp_path / name), (56, 60, channels), preprocessing.as_json()))
            with Image.open(tmp_path / name) as picture:
                expected.append(preprocessing.decode(picture, channels).transpose(1, 2, 0))
    words = [str(pillow), str(RASPBERRY_PI / "network.py"), str(tmp_path / "pixels.npz"), json.dumps(arguments)]
    sysroot.run(sysroots(), "aarch64", ["-c", PIXELS, *words])
    for found, wanted in zip(np.load(tmp_path / "pixels.npz").values(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_wheel_that_pip_takes_for_a_raspberry_pi_prints_the_class_of_a_picture(
    pillow: Path, tmp_path: Path
) -> None:
    need_zig()
    write_wheel(Platform("aarch64"), tmp_path)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--find-links",
        str(tmp_path),
    ]
    system = ["--target", str(tmp_path / "site"), "--only-binary=:all:", "--platform", "manylinux_2_17_aarch64"]
    subprocess.run([*command, *system, "bnncc-runtime"], check=True)
    arguments = [example.write_model(tmp_path), example.write_picture(tmp_path / "image.png"), "--top", "1"]
    start = ["-c", START_PACKAGE, f"{tmp_path / 'site'}:{pillow}", *map(str, arguments)]
    shown = sysroot.run(sysroots(), "aarch64", start)
    assert shown.split(maxsplit=2)[2].strip() == "Ankle boot"


def test_a_32_bit_raspberry_pi_computes_the_same(tmp_path: Path) -> None:
    need_zig()
    folder = tmp_path / "bundle"
    write_bundle(example.model(), find_target("raspberry-pi-4-32bit"), folder, data=str(example.IMAGES))
    shown = sysroot.run(sysroots(), "armv7", [str(folder / "run.py"), "--check", "--bench", "--runs", "3"])
    assert "same outputs      64 of 64 images" in shown
    assert "median of 3 runs" in shown


@dataclass(frozen=True)
class Phone:
    """An emulated phone.

    folder: what `bnncc deploy --adb` pushes; delegate: the bundle's for apps; libraries: Android's; root: for qemu;
    bundle: the whole of it.
    """

    abi: str
    folder: Path
    delegate: Path
    libraries: Path
    root: Path
    bundle: Path

    def run(
        self, *arguments: object, folder: Path | None = None, processor: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        program = (folder or self.folder) / "bnncc_run"
        words = [str(part) for part in arguments]
        return android_emulation.run(self.abi, self.root, self.libraries, program, words, processor)


@pytest.fixture(scope="module", params=["android-arm64", "android-armv7"])
def phone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Phone:
    need_zig()
    need(shutil.which("mmdebstrap"), debian("mmdebstrap"))
    target = find_target(request.param)
    made, pushed, libraries = (tmp_path_factory.mktemp(name) for name in ("made", "pushed", "libraries"))
    bundle, file = made / "bundle", example.write_model(made)
    arguments = ["bundle", str(file), "--target", target.name, "--data", str(example.IMAGES), "-o", str(bundle)]
    result = click.testing.CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    for path in filter(Path.is_file, (bundle / name for name in SHELL_FILES)):
        shutil.copy(path, pushed / path.name)
    android_emulation.make_libraries(target.abi, libraries)
    delegate = bundle / "jniLibs" / target.abi / "libbnncc_runtime.so"
    root = android_emulation.make_glibc(sysroots(), target.abi)
    return Phone(target.abi, pushed, delegate, libraries, root, bundle)


def test_android_gets_the_delegate_for_apps_and_a_program_for_the_shell(phone: Phone) -> None:
    assert elf(phone.delegate) == MACHINES[phone.abi]
    kotlin = (phone.bundle / "BnnccDelegate.kt").read_text()
    package = re.search(r"^package ([\w.]+)$", kotlin, re.MULTILINE)
    assert package is not None
    prefix = f"Java_{package[1].replace('.', '_')}_BnnccDelegate_00024Companion_"
    for function in re.findall(r"external fun (\w+)", kotlin):
        assert f"{prefix}{function}\0".encode() in phone.delegate.read_bytes()
    program = phone.bundle / "bnncc_run"
    assert elf(program) == MACHINES[phone.abi]
    assert program.stat().st_mode & 0o111
    readme = (phone.bundle / "README.md").read_text()
    assert 'implementation("org.tensorflow:tensorflow-lite:2.14.0")' in readme
    assert "adb push bnncc_run model.tflite check_images.npy" in readme
    assert f"minSdk = {android_toolchain.API_LEVEL}" in readme
    for path in (phone.delegate, program):
        assert_that_it_loads_on_pages_of_16_kib(path)
    # It opens no file and asks for no folder: an app may load it from within the APK (extractNativeLibs=false).
    assert Elf(phone.delegate).imports() <= {
        "malloc", "free", "memset", "memcpy", "memcmp", "strcmp", "strlen", "pthread_create", "pthread_join", "syscall",
        "getauxval",
    }  # fmt: skip


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_program_for_android_checks_and_measures(phone: Phone, threads: str) -> None:
    done = phone.run("--check", "--bench", "--runs", 3, "--threads", threads)
    assert done.returncode == 0, done.stderr
    assert f"device            a stand-in, {threads} threads" in done.stdout
    assert "same class        64 of 64 images" in done.stdout
    assert "same outputs      64 of 64 images" in done.stdout
    assert "median of 3 runs" in done.stdout


def test_layers_in_int8_compute_there_what_they_compute_here(phone: Phone, tmp_path: Path) -> None:
    """From a picture's bytes to logits, to the bit; on a core with dot products of bytes as well."""
    content = example.integer_content()
    images = example.images()[:64].transpose(0, 2, 3, 1)
    runner = InterpreterRunner(content)
    (tmp_path / "model.tflite").write_bytes(content)
    np.save(tmp_path / "check_images.npy", images)
    np.save(tmp_path / "check_outputs.npy", np.concatenate([runner.run([image[None]])[0] for image in images]))
    for processor in ("cortex-a72", "cortex-a76") if phone.abi == "arm64-v8a" else ("cortex-a7",):
        done = phone.run("--check", "--model", tmp_path / "model.tflite", processor=processor)
        assert done.returncode == 0, done.stderr
        assert "largest error     0.0e+00" in done.stdout


def test_the_program_for_android_prints_classes(phone: Phone, tmp_path: Path) -> None:
    images = example.images()[:2].transpose(0, 2, 3, 1).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    done = phone.run(tmp_path / "images.npy", "--top", 1)
    assert done.returncode == 0, done.stderr
    names = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if not line.startswith(str(tmp_path))]
    assert names == ["Ankle boot", "Pullover"]


def test_the_program_for_android_names_what_is_wrong(phone: Phone, tmp_path: Path) -> None:
    def fails(message: str, *arguments: object) -> None:
        done = phone.run(*arguments)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr

    fails("bnncc_run images.npy | --check | --bench")
    fails("--runs takes a number from 1 to 10000", "--check", "--runs", 0)
    fails("--threads takes a number", "--check", "--threads")
    fails("gone.npy cannot be opened", tmp_path / "gone.npy")
    fails("labels.txt is no .npy file", phone.folder / "labels.txt")
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((2, 28, 28, 1)))
    fails("does not hold float32 in C order", path)
    np.save(path, np.zeros((2, 27, 28, 1), np.float32))
    fails("images of 756 numbers, and the network takes 784", path)
    np.save(path, np.zeros((2, 28, 28, 1), np.float32))
    path.write_bytes(path.read_bytes()[:-4])
    fails("cut off", path)


def test_the_program_for_android_tells_other_outputs_from_a_damaged_file(phone: Phone, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(phone.folder, wrong)
    np.save(wrong / "check_outputs.npy", -np.load(wrong / "check_outputs.npy"))
    done = phone.run("--check", folder=wrong)
    assert done.returncode == CHECK_FAILED
    assert "check             FAILED" in done.stdout
    model = wrong / "model.tflite"
    model.write_bytes(model.read_bytes()[:-1000])
    done = phone.run("--check", folder=wrong)
    assert done.returncode == 2
    assert "model.tflite is damaged: its bytes are not those of the digest that it carries" in done.stderr
    model.unlink()
    done = phone.run("--check", folder=wrong)
    assert done.returncode == 2
    assert "model.tflite cannot be opened" in done.stderr


def test_the_delegate_for_apps_runs_in_tensorflow_lite_for_android(
    phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(shutil.which("npm"), debian("npm"))
    library = android_emulation.tflite_library(sysroots(), phone.abi)
    tflite = tmp_path / library.name
    tflite.write_bytes(android_emulation.without_versions(library.read_bytes()))
    monkeypatch.setitem(android_toolchain.STUBS, "libdl.so", ("dlerror", "dlopen", "dlsym"))
    app = tmp_path / "app"
    code = [android_toolchain.FILES / "start.cc", Path(__file__).with_name("app.cc")]
    android_toolchain.compile_for_android(phone.abi, "zig", code, app)
    np.load(phone.folder / "check_images.npy")[0].tofile(tmp_path / "image")
    arguments = [tflite, phone.delegate, phone.folder / "model.tflite", tmp_path / "image"]
    done = android_emulation.run(phone.abi, phone.root, phone.libraries, app, [str(path) for path in arguments])
    assert done.returncode == 0, done.stderr
    expected = np.load(phone.folder / "check_outputs.npy")[0].reshape(-1)
    found = np.array(done.stdout.split(), np.float32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_program_for_android_needs_only_the_device_s_c_library(phone: Phone) -> None:
    names = {path.name for path in phone.folder.iterdir()}
    assert names == {"bnncc_run", "model.tflite", "check_images.npy", "check_outputs.npy", "labels.txt"}
    program = phone.folder / "bnncc_run"
    shown = subprocess.run(["readelf", "--dynamic", program], capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in shown.splitlines() if "(NEEDED)" in line} == {"[libc.so]", "[libm.so]"}
