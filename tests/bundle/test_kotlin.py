"""BnnccDelegate.kt and its JNI shim, compiled for this machine, in a Java virtual machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bnncc.bundle.android_toolchain import FILES
from bnncc.runtime import Platform
from bnncc.runtime.build import compiler, flags, sources
from bnncc.wheels.kotlin import compile_kotlin

TOOLS = ("kotlinc", "javac", "java")
LIBRARIES = Path("/usr/share/java")
MAIN = """\
import dev.bnncc.BnnccDelegate

fun main() {
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


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason="no kotlinc or JDK (Debian's packages kotlin, default-jdk)"
)
def test_the_class_makes_and_destroys_delegates(tmp_path: Path) -> None:
    def call(*command: object) -> str:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = [*sources(), FILES / "jni.cc"]
    script = f"-Wl,--version-script={FILES / 'exports.map'}"
    call(*compiler(Platform.here()), *flags(), "-shared", *code, script, "-o", tmp_path / "libbnncc_runtime.so")
    (tmp_path / "Main.kt").write_text(MAIN)
    classes = tmp_path / "classes"
    compile_kotlin(classes, tmp_path / "Main.kt")
    call("javac", "-d", classes, tmp_path / "Delegate.java")
    path = ":".join(map(str, [classes, *LIBRARIES.glob("kotlin-stdlib*.jar")]))
    problem = "bnncc: threads must be a number from 0 to 64"
    shown = call("java", f"-Djava.library.path={tmp_path}", "-cp", path, "MainKt")
    assert shown.splitlines() == ["true", "true", problem, problem]
