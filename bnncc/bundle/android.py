"""What a bundle for Android holds: the delegate for apps, its Kotlin class, a program for `adb shell`, a README."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np

from bnncc.bundle.android_toolchain import ABIS, API_LEVEL, compile_for_android
from bnncc.bundle.check_data import CheckData
from bnncc.bundle.model import Model
from bnncc.errors import InputError
from bnncc.runtime.build import sources
from bnncc.targets.description import Target

FILES = Path(__file__).parent / "files" / "android"
LIBRARY, PROGRAM, TFLITE = "libbnncc_runtime.so", "bnncc_run", "libtensorflowlite_jni.so"

README = """\
# {name}, for {title}

Made by bnncc: a binary neural network and all that an app needs beside TensorFlow Lite (2.14 or later) or LiteRT.
Android 7.0 (API level {api_level}) or later.

## In an app

1. `jniLibs/` goes to `app/src/main/jniLibs/`, `BnnccDelegate.kt` to `app/src/main/java/dev/bnncc/`, `model.tflite` to
   `app/src/main/assets/`, with `androidResources {{ noCompress += "tflite" }}` in the app's `build.gradle.kts`.
2. Add the delegate to the Interpreter:

       val delegate = BnnccDelegate(threads = 4)
       val interpreter = Interpreter(model, Interpreter.Options().addDelegate(delegate).setNumThreads(4))

`bundle.json`{labels} how pictures become the network's input (`preprocessing`: torchvision's Resize,
CenterCrop and Normalize){labels_meaning}; the input is {shape} float32.

## In `adb shell`

{shell}
"""
SHELL = """\
`bnncc deploy --adb` copies the folder, checks it and measures.  By hand:

    adb shell mkdir -p /data/local/tmp/bnncc
    adb push {files} /data/local/tmp/bnncc/
    adb shell 'cd /data/local/tmp/bnncc && chmod +x {program} && ./{program} --check --bench'

`./{program} images.npy` prints the classes of your own images: float32, [count, {shape}], already
normalised."""
NO_SHELL = f"""\
The program for the shell needs an interpreter, and TensorFlow Lite's comes with the app only.  Make the bundle with
`--tflite-library {TFLITE}` (of the folder jni/ of tensorflow-lite's .aar) to have it."""


def write_android(
    model: Model, target: Target, compiler: str, tflite_library: Path | None, check: CheckData, folder: Path
) -> None:
    """Write to `folder` what is special to Android; the program only with a `tflite_library` to put beside it.

    InputError where that library is of another ABI; BuildError where the sources cannot be compiled.
    """
    libraries = folder / "jniLibs" / target.abi
    libraries.mkdir(parents=True)
    code = [*sources(), FILES / "jni.cc"]
    compile_for_android(target.abi, compiler, code, libraries / LIBRARY, exports=FILES / "exports.map")
    shutil.copyfile(FILES / "BnnccDelegate.kt", folder / "BnnccDelegate.kt")
    for name, array in (("images", check.images), ("outputs", check.outputs)):
        content = io.BytesIO()
        np.save(content, array)
        (folder / f"check_{name}.npy").write_bytes(content.getvalue())
    if tflite_library is not None:
        (folder / TFLITE).write_bytes(_read_library(tflite_library, target.abi))
        compile_for_android(target.abi, compiler, [FILES / "start.cc", FILES / "run.cc"], folder / PROGRAM)
        (folder / PROGRAM).chmod(0o755)
    (folder / "README.md").write_text(_readme(model, target, folder), encoding="utf-8")


def shell_files(folder: Path) -> list[Path]:
    """The files that the program in `adb shell` needs beside it, itself included; none where it is not there."""
    if not (folder / PROGRAM).is_file():
        return []
    names = (PROGRAM, TFLITE, "model.tflite", "check_images.npy", "check_outputs.npy", "labels.txt")
    return [*(folder / name for name in names if (folder / name).is_file()), *folder.glob(f"jniLibs/*/{LIBRARY}")]


def _read_library(path: Path, abi: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"--tflite-library: {path} cannot be read: {error.strerror}") from error
    # The header of an ELF file: the machine is the 16-bit number at offset 18.
    if content[:4] != b"\x7fELF" or int.from_bytes(content[18:20], "little") != ABIS[abi].elf_machine:
        raise InputError(f"--tflite-library: {path} is no library for {abi}")
    return content


def _readme(model: Model, target: Target, folder: Path) -> str:
    shape = model.file.inputs[0].shape
    files = shell_files(folder)
    shell = NO_SHELL
    if files:
        names = " ".join(str(path.relative_to(folder)) for path in files)
        shell = SHELL.format(files=names, program=PROGRAM, shape=", ".join(map(str, shape[1:])))
    return README.format(
        name=model.path.name,
        title=target.title,
        api_level=API_LEVEL,
        labels=" and `labels.txt` say" if model.classes else " says",
        labels_meaning=" and what its classes are called" if model.classes else "",
        shape="x".join(map(str, shape)),
        shell=shell,
    )
