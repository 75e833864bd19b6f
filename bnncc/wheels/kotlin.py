"""Compiles an app's Kotlin classes, the delegate's and the picture's, with kotlinc, to the classes.jar of an AAR."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from bnncc.bundle.android_toolchain import KOTLIN, KOTLIN_PICTURE
from bnncc.runtime.build import BuildError, call

# What the classes take of Kotlin's library is in all of them from this one on.
KOTLIN_LIBRARY = "1.3.31"
# What the classes are compiled against, by the names of the files: an app has the interface from TensorFlow Lite or
# LiteRT, and the bitmap from Android.
INTERFACES = {
    "Delegate.java": """\
package org.tensorflow.lite;
public interface Delegate extends java.io.Closeable {
  long getNativeHandle();
  @Override default void close() {}
}
""",
    "Bitmap.java": """\
package android.graphics;
public abstract class Bitmap {
  public abstract int getWidth();
  public abstract int getHeight();
  public abstract void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height);
}
""",
}


def why_no_kotlin() -> str | None:
    """What is missing here; None where nothing is."""
    return None if shutil.which("kotlinc") else "there is no kotlinc here (Debian: apt install kotlin)"


def compile_kotlin(classes: Path, *others: Path) -> None:
    """Compile both classes, and `others` that use them, to the folder `classes`; INTERFACES' sources go beside it.

    BuildError where there is no kotlinc, or it fails.
    """
    missing = why_no_kotlin()
    if missing is not None:
        raise BuildError(missing)
    interfaces = [classes.with_name(name) for name in INTERFACES]  # kotlinc reads them, and compiles what is Kotlin
    for path in interfaces:
        path.write_text(INTERFACES[path.name])
    options = ["-jvm-target", "1.8", "-module-name", "bnncc-runtime"]
    call(["kotlinc", *options, "-d", str(classes), *map(str, (KOTLIN, KOTLIN_PICTURE, *others, *interfaces))])


def kotlin_jar() -> bytes:
    """The jar of the classes.  BuildError as of `compile_kotlin`."""
    with tempfile.TemporaryDirectory() as temporary:
        classes = Path(temporary) / "classes"
        compile_kotlin(classes)
        files = sorted(path for path in classes.rglob("*") if path.is_file())
        return zipped({path.relative_to(classes).as_posix(): path.read_bytes() for path in files})


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip with these files, by their paths; the same bytes for the same files."""
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, data in files.items():
            entry = ZipInfo(name)  # with the date of all that has none
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return content.getvalue()
