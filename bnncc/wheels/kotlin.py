"""Compiles the Kotlin class of an app's delegate, with kotlinc, to the classes.jar of an AAR."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from bnncc.bundle.android_toolchain import KOTLIN
from bnncc.runtime.build import BuildError, call

# What the class takes of Kotlin's library is in all of them from this one on.
KOTLIN_LIBRARY = "1.3.31"
# The interface of TensorFlow Lite and LiteRT that the class implements; an app has it from one of both.
DELEGATE = """\
package org.tensorflow.lite;
public interface Delegate extends java.io.Closeable {
  long getNativeHandle();
  @Override default void close() {}
}
"""


def why_no_kotlin() -> str | None:
    """What is missing here; None where nothing is."""
    return None if shutil.which("kotlinc") else "there is no kotlinc here (Debian: apt install kotlin)"


def compile_kotlin(classes: Path, *others: Path) -> None:
    """Compile the class, and `others` that use it, to the folder `classes`; the interface's source goes beside it.

    BuildError where there is no kotlinc, or it fails.
    """
    missing = why_no_kotlin()
    if missing is not None:
        raise BuildError(missing)
    interface = classes.with_name("Delegate.java")  # kotlinc reads it, and compiles what is Kotlin
    interface.write_text(DELEGATE)
    options = ["-jvm-target", "1.8", "-module-name", "bnncc-runtime"]
    call(["kotlinc", *options, "-d", str(classes), *map(str, (KOTLIN, *others, interface))])


def kotlin_jar() -> bytes:
    """The jar of the class.  BuildError as of `compile_kotlin`."""
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
