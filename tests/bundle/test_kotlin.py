"""BnnccDelegate.kt with its JNI shim, and BnnccPicture.kt, compiled for this machine, in a Java virtual machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnncc.bundle.android_toolchain import FILES
from bnncc.data import Preprocessing
from bnncc.runtime import Platform
from bnncc.runtime.build import compiler, flags, sources
from bnncc.wheels.kotlin import INTERFACES, compile_kotlin

TOOLS = ("kotlinc", "javac", "java")
LIBRARIES = Path("/usr/share/java")
MAIN = """\
import dev.bnncc.BnnccDelegate
import dev.bnncc.BnnccPicture
import java.io.File

/** A line of the arguments' file: a raw picture and its size, then the constructor's arguments. */
fun load(line: List<String>, folder: File): ByteArray {
    val (name, width, height) = line
    val (rows, columns, channels, type, first, resize, bicubic, crop, divisor) = line.drop(3)
    val (mean, std) = line.drop(12).map { list -> list.split(",").map { it.toFloat() }.toFloatArray() }
    val picture = BnnccPicture(
        rows.toInt(), columns.toInt(), channels.toInt(), BnnccPicture.Type.valueOf(type), first.toBoolean(),
        resize.toInt(), bicubic.toBoolean(), crop.toBoolean(), divisor.toFloat(), mean, std
    )
    val bitmap = Pixels(File(folder, name).readBytes(), width.toInt(), height.toInt())
    val buffer = picture.load(bitmap)
    return ByteArray(buffer.remaining()).also { buffer.get(it) }
}

operator fun <T> List<T>.component6() = this[5]
operator fun <T> List<T>.component7() = this[6]
operator fun <T> List<T>.component8() = this[7]
operator fun <T> List<T>.component9() = this[8]

fun main(arguments: Array<String>) {
    if (arguments.isEmpty()) delegates() else File(arguments[0]).let { folder ->
        File(folder, "arguments").readLines().forEachIndexed { index, line ->
            try {
                File(folder, "$index.out").writeBytes(load(line.split(" "), folder))
            } catch (error: IllegalArgumentException) {
                println(error.message)
            }
        }
    }
}

fun delegates() {
    BnnccDelegate(threads = 4).use { println(it.nativeHandle != 0L) }
    BnnccDelegate().use { println(it.nativeHandle != 0L) }
    for (threads in listOf(-1, 65)) {
        try {
            BnnccDelegate(threads)
        } catch (error: IllegalArgumentException) {
            println(error.message)
        }
    }
}
"""
# A bitmap of opaque RGB bytes.
PIXELS = """\
public final class Pixels extends android.graphics.Bitmap {
  private final byte[] rgb;
  private final int width, height;
  public Pixels(byte[] rgb, int width, int height) { this.rgb = rgb; this.width = width; this.height = height; }
  @Override public int getWidth() { return width; }
  @Override public int getHeight() { return height; }
  @Override public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) {
    for (int row = 0; row < height; ++row)
      for (int column = 0; column < width; ++column) {
        int at = 3 * ((y + row) * this.width + x + column);
        int color = (rgb[at] & 255) << 16 | (rgb[at + 1] & 255) << 8 | rgb[at + 2] & 255;
        pixels[offset + row * stride + column] = 255 << 24 | color;
      }
  }
}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)), reason="no kotlinc or JDK (Debian's packages kotlin, default-jdk)"
    ),
]


def call(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With MAIN and all that it uses in `classes`, but for the library."""
    folder = tmp_path_factory.mktemp("kotlin")
    (folder / "Main.kt").write_text(MAIN)
    (folder / "Pixels.java").write_text(PIXELS)
    compile_kotlin(folder / "classes", folder / "Main.kt", folder / "Pixels.java")
    call("javac", "-d", folder / "classes", *(folder / name for name in (*INTERFACES, "Pixels.java")))
    return folder


def java(folder: Path, *arguments: object) -> str:
    path = ":".join(map(str, [folder / "classes", *LIBRARIES.glob("kotlin-stdlib*.jar")]))
    return call("java", f"-Djava.library.path={folder}", "-cp", path, "MainKt", *arguments)


def test_the_class_makes_and_destroys_delegates(folder: Path) -> None:
    code = [*sources(), FILES / "jni.cc"]
    script = f"-Wl,--version-script={FILES / 'exports.map'}"
    call(*compiler(Platform.here()), *flags(), "-shared", *code, script, "-o", folder / "libbnncc_runtime.so")
    problem = "bnncc: threads must be a number from 0 to 64"
    assert java(folder).splitlines() == ["true", "true", problem, problem]


def numbers(values: Sequence[float]) -> str:
    return ",".join(str(np.float32(value)) for value in values)


def test_a_bitmap_becomes_the_bytes_that_bnncc_makes_of_the_picture(folder: Path, tmp_path: Path) -> None:
    """Of random pictures, sizes and preprocessings, larger and smaller than the input."""
    random = np.random.default_rng(0)
    lines, expected = [], []
    for index in range(60):
        width = int(random.integers(1, 90))
        height = int(random.integers(1, min(90, 2 * width)))  # of higher ones Pillow 13 resizes the height first
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        pixels[random.random((height, width)) < 0.5] = random.choice([0, 255])  # edges at which a cubic overshoots
        (tmp_path / f"{index}.rgb").write_bytes(pixels.tobytes())
        channels, bicubic = (1, 3)[index % 2], index % 3 == 0
        resize = int(random.integers(1, 60)) if index % 5 else None
        shorter = resize or min(width, height)
        rows, columns = (int(side) for side in random.integers(1, shorter + 1, 2))
        type_ = ("FLOAT32", "UINT8", "INT8")[index % 3 if index % 4 else 0]
        mean, std = tuple(random.random(channels)), tuple(random.random(channels) + 0.1)
        said = ({"mean": mean, "std": std}, {"pixels": "0..1"}, {"pixels": "0..255"})[index // 3 % 3]
        preprocessing = Preprocessing(
            resize, (rows, columns), interpolation="bicubic" if bicubic else "bilinear", **said
        )
        image = preprocessing.decode(Image.fromarray(pixels), channels)
        as_stored = {
            "FLOAT32": preprocessing.normalize,
            "UINT8": lambda image: image,
            "INT8": lambda image: (image.astype(np.int16) - 128).astype(np.int8),
        }[type_](image)
        first = index % 7 == 0
        expected.append((as_stored if first else as_stored.transpose(1, 2, 0)).tobytes())
        lines.append(
            [f"{index}.rgb", width, height, rows, columns, channels, type_, str(first).lower(), resize or 0,
             str(bicubic).lower(), "true", 1 if preprocessing.pixels == "0..255" else 255,
             numbers(preprocessing.mean or (0,)), numbers(preprocessing.std or (1,))]
        )  # fmt: skip
    lines.append(["0.rgb", *lines[0][1:3], 99, 99, *lines[0][5:]])
    (tmp_path / "arguments").write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    assert "and the network takes 99x99" in java(folder, tmp_path)
    for index, content in enumerate(expected):
        assert (tmp_path / f"{index}.out").read_bytes() == content, lines[index]
