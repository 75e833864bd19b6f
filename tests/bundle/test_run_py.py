"""run.py of a bundle for a Raspberry Pi, run on this machine with this machine's delegate in the folder."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import types
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import bnncc.bundle
from bnncc.bundle.check_data import make_check_data
from bnncc.bundle.manifest import MANIFEST, write_manifest
from bnncc.data import Preprocessing
from bnncc.inference import Model
from bnncc.runtime import library_path
from tests.bundle import example
from tests.data.videos import write_video
from tests.needs import needs_pyav

FILES = Path(bnncc.bundle.__file__).parent / "files" / "raspberry_pi"
CHECK_FAILED = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle for this machine."""
    return bundle_of(example.model(), tmp_path / "bundle")


def bundle_of(model: Model, path: Path) -> Path:
    path.mkdir()
    (path / "model.tflite").write_bytes(model.content)
    (path / "labels.txt").write_text("".join(f"{name}\n" for name in model.classes))
    (path / "check.npz").write_bytes(make_check_data(model, str(example.IMAGES)).npz())
    shutil.copyfile(library_path(), path / "libbnncc_runtime.so")
    for name in ("network.py", "run.py"):
        shutil.copyfile(FILES / name, path / name)
    preprocessing = model.preprocessing.as_json()
    entries = {"abi": "host", "input_layout": "NHWC", "preprocessing": preprocessing, "head": model.options.head.value}
    write_manifest(path, entries)
    return path


def run(folder: Path, *arguments: object, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, str(folder / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)


def test_a_check_says_where_the_interpreter_is_another_one_than_the_file_was_proven_for(folder: Path) -> None:
    installed = version("ai-edge-litert")
    manifest = json.loads((folder / MANIFEST).read_text())
    for proven, said in (
        ([installed], ""),
        (["1.2.3", "1.2.4"], "the file was proven for 1.2.3 and 1.2.4: pip install -r"),
    ):
        (folder / MANIFEST).write_text(json.dumps(manifest | {"proven": {"ai-edge-litert": proven}}))
        done = run(folder, "--check")
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
        assert bool(said) == (f"ai-edge-litert {installed} is installed" in done.stderr)


def test_a_picture_s_class_is_printed(folder: Path, tmp_path: Path) -> None:
    done = run(folder, example.write_picture(tmp_path / "boot.png"), "--top", 2)
    assert done.returncode == 0, done.stderr
    name, first, _ = done.stdout.splitlines()
    assert name.endswith("boot.png")
    assert first.split(maxsplit=1)[1] == "Ankle boot"


def test_the_check_passes_here_and_the_latency_is_printed(folder: Path) -> None:
    done = run(folder, "--check", "--bench", "--runs", 3, "--threads", 2)
    assert done.returncode == 0, done.stderr
    assert "2 threads" in done.stdout
    assert "same class        64 of 64 images" in done.stdout
    assert "same outputs      64 of 64 images" in done.stdout
    assert "check             passed" in done.stdout
    assert "median of 3 runs" in done.stdout


def test_accuracy_is_that_of_the_labels(folder: Path) -> None:
    done = run(folder, "--check", example.IMAGES)
    assert done.returncode == 0, done.stderr
    assert "accuracy          91.90% (919 of 1,000)" in done.stdout


@pytest.mark.parametrize("ends", [example.PIXELS_TO_BYTES, example.PIXELS_TO_CLASS])
def test_files_that_take_bytes_are_given_the_picture_s_own(ends: example.Ends, tmp_path: Path) -> None:
    folder = bundle_of(example.model(ends=ends), tmp_path / "bundle")
    done = run(folder, example.write_picture(tmp_path / "boot.png"), "--top", 1, "--check", "--bench", "--runs", 1)
    assert done.returncode == 0, done.stderr
    *score, name = done.stdout.splitlines()[1].strip().split(maxsplit=1 if ends.head == "softmax" else 0)
    assert name == "Ankle boot"
    assert all(0.9 < float(text) < 1 for text in score)  # a probability, not the byte that stands for it
    assert "same outputs      64 of 64 images" in done.stdout
    done = run(folder, "--check", example.IMAGES)
    accuracy = float(done.stdout.split("accuracy")[1].split("%")[0])
    assert 91.7 < accuracy < 92
    np.savez(tmp_path / "floats.npz", images=example.images()[:1] / np.float32(255))
    one_line(run(folder, "--check", tmp_path / "floats.npz"), "takes pixels as they are decoded, uint8")


def test_other_outputs_fail_the_check(folder: Path) -> None:
    arrays = dict(np.load(folder / "check.npz"))
    arrays["outputs"] = np.roll(arrays["outputs"], 1, axis=1)
    np.savez(folder / "check.npz", **arrays)
    write_manifest(folder, json.loads((folder / MANIFEST).read_text()))
    done = run(folder, "--check")
    assert done.returncode == CHECK_FAILED
    assert "check             FAILED" in done.stdout


def test_missing_packages_are_named_with_the_commands_that_install_them(folder: Path) -> None:
    done = run(folder, "--check", flags=("-S",))
    assert done.returncode not in (0, CHECK_FAILED)
    assert "No module named" in done.stderr
    assert "python3 -m venv .venv" in done.stderr
    assert ".venv/bin/pip install -r requirements.txt numpy pillow" in done.stderr


# What it says is for the devices named, told by what Python says of them: (Python, glibc, bits, machine).
DEVICES = {
    "bullseye": ((3, 9), "glibc 2.31", 64, "aarch64"),
    "bookworm": ((3, 11), "glibc 2.36", 64, "aarch64"),
    "trixie": ((3, 13), "glibc 2.41", 64, "aarch64"),
    "bullseye 32": ((3, 9), "glibc 2.31", 32, "armv7l"),
    "bookworm 32": ((3, 11), "glibc 2.36", 32, "aarch64"),  # by default on a kernel of 64 bits
    "trixie 32": ((3, 13), "glibc 2.41", 32, "armv7l"),
    "alpine": ((3, 12), None, 64, "aarch64"),
    "pi zero": ((3, 11), "glibc 2.36", 32, "armv6l"),
    "armel": ((3, 11), "glibc 2.36", 32, "armv7l"),
}


def on_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str) -> str:
    """What run.py says there, where no package is installed."""
    version, libc, bits, machine = DEVICES[device]
    python = tmp_path / "python"
    flags = 0x5000200 if device == "armel" else 0x5000400
    python.write_bytes(b"\x7fELF\x01\x01\x01".ljust(36, b"\0") + flags.to_bytes(4, "little"))
    for package in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(sys, "maxsize", 2 ** (bits - 1) - 1)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(FILES / "run.py"))
    return str(exit_.value)


@pytest.mark.parametrize(
    ("device", "texts"),
    [
        *((name, ["pip install -r requirements.txt numpy pillow"]) for name in ("bullseye", "bookworm", "trixie")),
        (
            "bookworm 32",
            ["apt install python3-venv python3-numpy", "--system-site-packages", "pip install -r requirements.txt"],
        ),
        ("bullseye 32", ["no package", "Python 3.9 of 32 bits with glibc 2.31", "bnncc_runtime"]),
        ("trixie 32", ["no package", "Python 3.13 of 32 bits with glibc 2.41", "bnncc_runtime"]),
        ("alpine", ["no package", "Python 3.12 of 64 bits with another C library", "bnncc_runtime"]),
        ("pi zero", ["ARMv6", "no NEON"]),
        ("armel", ["soft-float"]),
    ],
)
def test_what_is_said_is_true_of_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, texts: list[str]
) -> None:
    said = on_device(monkeypatch, tmp_path, device)
    assert all(text in said for text in texts), said
    assert ("venv" in said) == (device not in ("pi zero", "armel"))


def test_a_tensorflow_lite_that_takes_no_such_delegate_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interpreter = types.ModuleType("tflite_runtime.interpreter")
    package = types.ModuleType("tflite_runtime")
    vars(package)["__version__"] = "2.13.0"
    vars(interpreter).update(Interpreter=None, load_delegate=None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", package)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", interpreter)
    with pytest.raises(SystemExit, match=r"tflite-runtime 2\.13\.0 takes no delegates"):
        runpy.run_path(str(FILES / "run.py"))


def test_what_is_no_picture_is_one_line(folder: Path) -> None:
    for name in ("run.py", "gone.png"):
        done = run(folder, folder / name)
        assert done.returncode not in (0, CHECK_FAILED)
        assert len(done.stderr.strip().splitlines()) <= 2  # LiteRT announces itself
        assert name in done.stderr


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(pixels="0..255"),
        Preprocessing(resize=9, crop=(8, 6), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3)),
        Preprocessing(resize=20, crop=(8, 6), mean=(0.5,), std=(0.25,), interpolation="bicubic"),
        Preprocessing(crop=(7, 5), pixels="0..1"),
    ],
)
def test_pictures_become_what_bnncc_makes_of_them(tmp_path: Path, preprocessing: Preprocessing) -> None:
    module = network_module()
    pixels = np.random.default_rng(0).integers(0, 256, (17, 13, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        expected = preprocessing.normalize(preprocessing.decode(picture, 3)).transpose(1, 2, 0)
    found = module["load_picture"](str(tmp_path / "x.png"), expected.shape, preprocessing.as_json())
    found = module["normalize"](found, preprocessing.as_json())
    np.testing.assert_array_equal(found, expected)
    turned = module["channels_last"](expected.transpose(2, 0, 1), expected.shape)
    np.testing.assert_array_equal(turned, expected)


# As the package of Raspberry Pi OS behaves (picamera2/request.py: which name of a format has which channel first).
PICAMERA2 = """\
import numpy as np

SEEN, INTERRUPTED_BEHIND = np.load(__file__ + ".npz").values()


class Picamera2:
    calls = []

    def create_preview_configuration(self, main):
        return {"main": main}

    def configure(self, configuration):
        self.calls.append(configuration["main"])
        self.order = {"BGR888": 1, "RGB888": -1}[configuration["main"]["format"]]

    def start(self):
        self.calls.append("start")

    def capture_array(self, name):
        assert name == "main"
        if self.calls.count("capture") == INTERRUPTED_BEHIND:
            raise KeyboardInterrupt
        self.calls.append("capture")
        return SEEN[..., :: self.order].copy()

    def close(self):
        self.calls.append("close")
"""


def write_picamera2(folder: Path, seen: np.ndarray, interrupted_behind: int) -> None:
    """A stand-in whose camera sees the uint8 pixels [height, width, 3], till Ctrl-C behind so many frames."""
    folder.mkdir()
    (folder / "picamera2.py").write_text(PICAMERA2)
    np.savez(folder / "picamera2.py.npz", seen=seen, interrupted_behind=interrupted_behind)


def network_module() -> dict[str, Any]:
    return runpy.run_path(str(FILES / "network.py"), run_name="network")


def test_a_camera_s_frames_are_classified_till_ctrl_c(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = np.kron(example.images()[0, 0], np.ones((2, 2), np.uint8))
    write_picamera2(tmp_path / "site", np.repeat(boot[:, :, np.newaxis], 3, axis=2), 4)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    done = run(folder, "--camera")
    assert done.returncode == 0, done.stderr
    name, first, *others, last = done.stdout.splitlines()
    assert name == "--camera"
    assert first.split(maxsplit=1)[1] == "Ankle boot"
    assert len(others) == 3
    for line in others:
        (frames,) = re.findall(r"^ +[\d.-]+  Ankle boot   ([\d.]+) frames/s$", line)
        assert float(frames) > 0
    assert re.fullmatch(r"frames            4, [\d.,]+ a second", last)
    assert "Traceback" not in done.stderr


def test_who_reads_the_output_may_leave() -> None:
    """As head does: no traceback, neither while lines are printed nor at the end."""
    for lines in (1, 100_000):
        code = f"import network; network.end_with_reader(lambda: [print('class') for _ in range({lines})])"
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(FILES)!r}); sys.stdin.read(); {code}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            process.stdin.close()
            assert process.stderr.read() == ""
        assert process.returncode == network_module()["READER_LEFT"]


@needs_pyav
def test_a_video_s_frames_are_classified_to_their_number(folder: Path, tmp_path: Path) -> None:
    boot = np.kron(example.images()[0, 0], np.ones((4, 4), np.uint8))[:, :, np.newaxis]
    video = write_video(tmp_path / "boot.mp4", np.repeat(np.repeat(boot, 3, axis=2)[np.newaxis], 9, axis=0))
    done = run(folder, video, "--every", 2, "--frames", 4)
    assert done.returncode == 0, done.stderr
    name, *lines, last = done.stdout.splitlines()
    assert name == str(video)
    assert len(lines) == 4
    assert all("  Ankle boot" in line for line in lines)
    assert last.startswith("frames            4, ")


@pytest.mark.parametrize(
    ("preprocessing", "size"),
    [(Preprocessing(resize=8, crop=(8, 6), pixels="0..1"), (640, 480)), (Preprocessing(pixels="0..1"), (13, 17))],
)
def test_a_camera_s_colours_and_size_are_those_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    seen = np.random.default_rng(0).integers(0, 256, (17, 13, 3), np.uint8)
    write_picamera2(tmp_path / "site", seen, 9)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    module = network_module()
    expected = preprocessing.decode(Image.fromarray(seen), 3).transpose(1, 2, 0)
    frames = module["camera_frames"](expected.shape, preprocessing.as_json())
    found = module["picture_pixels"](next(frames), "a frame", expected.shape, preprocessing.as_json())
    np.testing.assert_array_equal(found, expected)
    frames.close()
    calls = sys.modules.pop("picamera2").Picamera2.calls
    assert calls == [{"format": "BGR888", "size": size}, "start", "capture", "close"]


def test_a_camera_that_fails_is_closed_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picamera2(tmp_path / "site", np.zeros((8, 8, 3), np.uint8), 9)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    frames = network_module()["camera_frames"]((8, 8, 3), {})
    next(frames)
    camera = sys.modules.pop("picamera2").Picamera2
    monkeypatch.setattr(camera, "capture_array", Mock(side_effect=RuntimeError("no cable")))
    with pytest.raises(SystemExit, match="--camera: no cable"):
        next(frames)
    assert camera.calls[-1] == "close"


def test_without_picamera2_or_a_camera_it_says_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = network_module()["camera_frames"]
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SystemExit) as exit_:
        next(frames((8, 8, 3), {}))
    said = str(exit_.value)
    assert "apt install python3-picamera2" in said
    assert "python3 -m venv --system-site-packages .venv" in said
    package = types.ModuleType("picamera2")
    vars(package)["Picamera2"] = lambda: [][0]
    monkeypatch.setitem(sys.modules, "picamera2", package)
    with pytest.raises(SystemExit, match="no camera can be opened"):
        next(frames((8, 8, 3), {}))


@pytest.mark.parametrize(
    ("name", "arguments"), [("model.tflite", ["--bench", "--runs", 1]), ("check.npz", ["--check"])]
)
def test_a_damaged_copy_is_known_by_its_digest(folder: Path, name: str, arguments: list[object]) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    done = run(folder, *arguments)
    assert done.returncode == 1
    assert f"{name} is damaged: its SHA-256 is not that of bundle.json" in done.stderr


def one_line(done: subprocess.CompletedProcess[str], text: str) -> None:
    """It ended with the cause, without a traceback."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", '{"preprocessing": {}}', "[" * 100_000])
def test_a_damaged_manifest_is_one_line(folder: Path, content: str) -> None:
    (folder / "bundle.json").write_text(content)
    one_line(run(folder, "--bench"), "copy the bundle again")


@pytest.mark.parametrize("name", ["labels.txt", "libbnncc_runtime.so"])
def test_what_every_run_reads_is_known_to_be_damaged(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff" * 100)
    one_line(run(folder, "--bench", "--runs", 1), "is damaged")


def test_a_library_for_another_machine_says_so_and_nothing_else(folder: Path) -> None:
    library = folder / "libbnncc_runtime.so"
    header = bytearray(library.read_bytes())
    header[18] = 183  # ELF: AArch64
    library.write_bytes(header)
    (folder / "bundle.json").unlink()
    write_manifest(folder, {"abi": "host", "input_layout": "NHWC", "preprocessing": {}})
    one_line(run(folder, "--bench"), "is for 64-bit ARM, and does not load in this")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "no array called images"),
        ({"images": np.float32(1)}, "[count, …]"),
        ({"images": np.zeros((0, 28, 28, 1), np.float32)}, "one image at least"),
        ({"images": np.array(["a"])}, "[count, …]"),
        ({"images": np.array([None])}, "no readable .npz file"),
        ({"images": np.zeros((2, 28, 28, 1), np.float32), "labels": np.zeros(5)}, "labels of shape (5,) for 2 images"),
        ({"images": np.zeros((1, 28, 28, 1), np.float32), "outputs": np.zeros((1, 7))}, "outputs of shape (1, 7)"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(
    folder: Path, tmp_path: Path, arrays: dict[str, np.ndarray], text: str
) -> None:
    np.savez(tmp_path / "images.npz", **arrays)
    one_line(run(folder, "--check", tmp_path / "images.npz"), text)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"images": np.full((2, 28, 28, 1), np.nan, np.float32)}, "images hold NaN or infinity"),
        ({"labels": np.eye(10)[:2]}, "labels of shape (2, 10) and type float64; give the index"),
        ({"labels": np.array(["a", "b"])}, "labels of shape (2,) and type <U1; give the index"),
        ({"labels": np.array([9, 10])}, "the label 10, and the network has the classes 0 to 9"),
        ({"labels": np.array([-1, 1])}, "the label -1, and"),
        ({"labels": np.array([0.5, 1])}, "the label 0.5, and"),
    ],
)
def test_images_and_labels_that_mean_nothing_are_one_line(
    tmp_path: Path, arrays: dict[str, np.ndarray], text: str
) -> None:
    np.savez(tmp_path / "images.npz", **{"images": np.zeros((2, 28, 28, 1), np.float32), **arrays})
    output = {"shape": np.array([1, 10])}
    network = Mock(takes_bytes=False, outputs=[output], is_classifier=True, settings=Mock(yields_class=False))
    with pytest.raises(SystemExit, match=re.escape(text)):
        network_module()["check"](network, tmp_path / "images.npz")
    network.run.assert_not_called()


def test_without_a_place_for_its_output_it_says_so() -> None:
    code = f"import sys; sys.path.insert(0, {str(FILES)!r}); import network; "
    code += "network.end_with_reader(lambda: print('class'))"
    for output, status, said in ((">/dev/full", 1, "[Errno 28] No space left on device\n"), (">&-", 0, "")):
        command = ["sh", "-c", f'"$0" -c "$1" {output}', sys.executable, code]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (status, said)


@pytest.mark.parametrize("kind", ["a bomb", "a pipe", "16 bits", "damaged"])
def test_pictures_of_any_kind_are_one_line(folder: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "16 bits":
        Image.fromarray(np.full((28, 28), 1000, np.uint16)).save(path)
    else:
        Image.new("L", (28, 28)).save(path)
        content = bytearray(path.read_bytes())
        if kind == "a bomb":
            content[16:24] = (30_000).to_bytes(4, "big") * 2
            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        else:
            content[40:] = b"x" * 40
        path.write_bytes(content)
    one_line(run(folder, path), str(path))


@pytest.mark.parametrize("option", ["--threads", "--runs", "--top"])
@pytest.mark.parametrize("value", ["0", "-1", "9999999999"])
def test_a_number_that_nothing_can_have_is_refused(folder: Path, option: str, value: str) -> None:
    done = run(folder, "--bench", option, value)
    assert done.returncode == 2
    assert "is not between 1 and 100000" in done.stderr
