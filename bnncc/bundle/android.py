"""What a bundle for Android holds: the delegate for apps, Kotlin classes, a program for `adb shell`, a README."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np

from bnncc.bundle.android_toolchain import (
    API_LEVEL,
    FILES,
    KOTLIN,
    KOTLIN_PICTURE,
    LIBRARY,
    compile_app_library,
    compile_for_android,
)
from bnncc.bundle.check_data import CheckData
from bnncc.inference import Model
from bnncc.runtime.build import program_sources, sources
from bnncc.system.names import as_utf8
from bnncc.targets.description import Target
from bnncc.targets.released import PROVEN, RUNTIMES, title
from bnncc.targets.tflite.runtimes import needs, oldest

PROGRAM = "bnncc_run"
# Maven's names of TensorFlow Lite and LiteRT.
_LIBRARIES = {"tflite": "org.tensorflow:tensorflow-lite", "litert": "com.google.ai.edge.litert:litert"}
# What the program in `adb shell` needs beside it, itself included.
SHELL_FILES = (PROGRAM, "model.tflite", "check_images.npy", "check_outputs.npy", "labels.txt")

README = """\
# {name}, for {title}

Made by bnncc: a binary neural network, all that an app needs beside TensorFlow Lite (2.14 or later) or LiteRT, and a
program for the shell that needs nothing else.  Android 7.0 (API level {api_level}) or later.

## In an app

`minSdk = {api_level}` or higher, `abiFilters` with `{abi}`: there is no library here for others, and none by bnncc for
`armeabi` (soft-float, without NEON) and the emulators' `x86` and `x86_64`.

1. `jniLibs/` goes to `app/src/main/jniLibs/`, the `.kt` files to `app/src/main/java/dev/bnncc/`, `model.tflite` to
   `app/src/main/assets/`, with `androidResources {{ noCompress += "tflite" }}` in the app's `build.gradle.kts`.
2. The interpreter in exactly the version that this file was proven for, in `dependencies` of `build.gradle.kts`; later
   ones up to {newest} have computed the same on Linux:

       implementation("{dependency}")

3. Add the delegate to the Interpreter:

       val delegate = BnnccDelegate(threads = 4)
       val interpreter = Interpreter(model, Interpreter.Options().addDelegate(delegate).setNumThreads(4))
{picture}
The library is built for memory pages of 16 KiB, which fit those of 4, and needs no file beside it: the app may keep it
in the APK, uncompressed (`extractNativeLibs="false"`, Gradle's default from minSdk 23 on), where the Android Gradle
plugin from 8.5.1 on, or `zipalign -P 16`, aligns it.

`bundle.json`{labels} how pictures become the network's input (`preprocessing`: torchvision's Resize,
CenterCrop{normalizes}){labels_meaning}; the input is {shape} {dtype}{bytes_meaning}.

## In `adb shell`

`bnncc deploy --adb` copies what the shell needs, checks it and measures.  By hand:

    adb shell mkdir -p /data/local/tmp/bnncc
    adb push {files} /data/local/tmp/bnncc/
    adb shell 'cd /data/local/tmp/bnncc && chmod +x {program} && ./{program} --check --bench'

`./{program} images.npy` prints the classes of your own images: {dtype}, [count, {axes}]{already}.
"""


# A step of README.  An app's bitmap is what its decoder made of a file; the rest is bnncc's own arithmetic.
PICTURE = """
4. Make the input of a `Bitmap`, by the preprocessing that the file was compiled with; `BnnccPicture.kt` says what may
   differ from the pictures of Python:

       val picture = BnnccPicture(
           {arguments}
       )
       interpreter.run(picture.load(bitmap), output)
"""


def write_android(model: Model, target: Target, compiler: str, check: CheckData, folder: Path) -> None:
    """Write to `folder` what is special to Android.

    BuildError where the sources cannot be compiled.
    """
    libraries = folder / "jniLibs" / target.abi
    libraries.mkdir(parents=True)
    compile_app_library(target.abi, compiler, libraries / LIBRARY)
    for path in (KOTLIN, KOTLIN_PICTURE):
        shutil.copyfile(path, folder / path.name)
    for name, array in (("images", check.images), ("outputs", check.outputs)):
        content = io.BytesIO()
        np.save(content, array)
        (folder / f"check_{name}.npy").write_bytes(content.getvalue())
    code = [*sources(), *program_sources(), FILES / "start.cc"]
    compile_for_android(target.abi, compiler, code, folder / PROGRAM)
    (folder / PROGRAM).chmod(0o755)
    (folder / "README.md").write_bytes(as_utf8(_readme(model, target, folder)))


def _readme(model: Model, target: Target, folder: Path) -> str:
    shape = model.file.inputs[0].shape
    (spec,) = model.inputs
    less = ", less 128" if spec.dtype == "int8" else ""
    return README.format(
        picture=picture_step(model),
        dtype=spec.dtype,
        normalizes="" if spec.is_bytes else " and Normalize",
        bytes_meaning=f", pixels as they are decoded{less}" if spec.is_bytes else "",
        already=less if spec.is_bytes else ",\nalready normalised",
        name=model.path.name,
        title=target.title,
        dependency=dependency(model, target),
        newest=title(target.runtimes[1]),
        api_level=API_LEVEL,
        abi=target.abi,
        labels=" and `labels.txt` say" if model.classes else " says",
        labels_meaning=" and what its classes are called" if model.classes else "",
        shape="x".join(map(str, shape)),
        axes=", ".join(map(str, shape[1:])),
        files=" ".join(name for name in SHELL_FILES if (folder / name).is_file()),
        program=PROGRAM,
    )


def picture_step(model: Model) -> str:
    """The step that makes the input of a bitmap; "" where BnnccPicture cannot, or the file does not say how."""
    (spec,) = model.inputs
    preprocessing = model.preprocessing
    shape = spec.shape[1:]
    if len(shape) != 3 or shape[0] not in (1, 3) or not (spec.is_bytes or preprocessing.says_pixels):
        return ""
    arguments = [f"rows = {shape[1]}", f"columns = {shape[2]}", f"channels = {shape[0]}"]
    if spec.is_bytes:
        arguments.append(f"type = BnnccPicture.Type.{spec.dtype.upper()}")
    if not model.options.channels_last:
        arguments.append("channelsFirst = true")
    if preprocessing.resize is not None:
        arguments += [
            f"resize = {preprocessing.resize}",
            f"bicubic = {_kotlin(preprocessing.interpolation == 'bicubic')}",
        ]
    arguments.append(f"crop = {_kotlin(preprocessing.crop is not None)}")
    if not spec.is_bytes and preprocessing.pixels == "0..255":
        arguments.append("divisor = 1f")
    if not spec.is_bytes and preprocessing.mean:
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            arguments.append(f"{name} = floatArrayOf({', '.join(str(np.float32(value)) + 'f' for value in values)})")
    return PICTURE.format(arguments=",\n           ".join(arguments))


def _kotlin(truth: bool) -> str:
    return "true" if truth else "false"


def dependency(model: Model, target: Target) -> str:
    """Maven's coordinates of the oldest interpreter that the target may have and that the file is right on."""
    fitting = max(oldest(needs(model.file)), target.runtimes[0], key=RUNTIMES.index)
    return f"{_LIBRARIES[fitting.partition('-')[0]]}:{PROVEN[fitting]}"
