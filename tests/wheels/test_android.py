"""The AAR, and the folder of a Maven repository that it lies in, as Gradle reads them."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest

from bnncc import __version__
from bnncc.bundle.android_toolchain import ABIS, API_LEVEL, KOTLIN
from bnncc.errors import BnnccError
from bnncc.wheels import android, kotlin

ANDROID = "{http://schemas.android.com/apk/res/android}"
POM = "{http://maven.apache.org/POM/4.0.0}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is made, by compilers that write their target's name."""
    monkeypatch.setattr(android, "kotlin_jar", lambda: kotlin.zipped({"dev/bnncc/BnnccDelegate.class": b"class"}))
    monkeypatch.setattr(android, "compile_app_library", lambda abi, compiler, output: output.write_text(abi))
    written = android.write_maven(tmp_path / "dist", tmp_path / "build")
    assert written == tmp_path / f"dist/maven/dev/bnncc/bnncc-runtime/{__version__}/bnncc-runtime-{__version__}.aar"
    return written.parent


def test_an_aar_has_a_library_for_each_abi_and_what_gradle_looks_for(folder: Path) -> None:
    with ZipFile(next(folder.glob("*.aar"))) as aar:
        assert {"AndroidManifest.xml", "classes.jar", "R.txt", "proguard.txt"} < set(aar.namelist())
        assert {name: aar.read(name) for name in aar.namelist() if name.startswith("jni/")} == {
            f"jni/{abi}/libbnncc_runtime.so": abi.encode() for abi in ABIS
        }
        with ZipFile(io.BytesIO(aar.read("classes.jar"))) as jar:
            assert jar.namelist() == ["dev/bnncc/BnnccDelegate.class"]
        manifest = ElementTree.fromstring(aar.read("AndroidManifest.xml"))
    sdk = manifest.find("uses-sdk")
    assert sdk is not None
    assert sdk.get(f"{ANDROID}minSdkVersion") == str(API_LEVEL)
    assert f"package {manifest.get('package')}\n" in KOTLIN.read_text()


def test_the_pom_names_the_folder_and_every_file_has_its_checksums(folder: Path) -> None:
    name = f"bnncc-runtime-{__version__}"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{kind}{checksum}"
        for kind in ("aar", "pom")
        for checksum in ("", *(f".{checksum}" for checksum in android.CHECKSUMS))
    )
    for path in folder.glob("*.*.*.*.*"):
        if path.suffix[1:] in android.CHECKSUMS:
            expected = hashlib.new(path.suffix[1:], path.with_suffix("").read_bytes()).hexdigest()
            assert path.read_text() == expected
    pom = ElementTree.parse(folder / f"{name}.pom").getroot()
    group, artifact, version = (pom.findtext(f"{POM}{part}") for part in ("groupId", "artifactId", "version"))
    assert folder.as_posix().endswith(f"/{str(group).replace('.', '/')}/{artifact}/{version}")
    assert pom.findtext(f"{POM}packaging") == "aar"


def test_the_same_sources_are_compiled_once_and_make_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = next(folder.glob("*.aar")).read_bytes()
    monkeypatch.setattr(android, "compile_app_library", None)
    root = folder.parents[5]
    assert android.write_maven(root / "again", root / "build").read_bytes() == content


def test_without_kotlinc_a_message_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BnnccError, match=r"no kotlinc here \(Debian: apt install kotlin\)"):
        android.write_maven(tmp_path / "dist", tmp_path / "build")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kotlinc") is None, reason="no kotlinc (Debian's package kotlin)")
def test_the_jar_holds_the_class_and_none_of_tensorflow_lite() -> None:
    with ZipFile(io.BytesIO(kotlin.kotlin_jar())) as jar:
        classes = {name for name in jar.namelist() if name.endswith(".class")}
    assert {name for name in classes if "Picture" not in name} == {
        "dev/bnncc/BnnccDelegate.class", "dev/bnncc/BnnccDelegate$Companion.class"
    }  # fmt: skip
    assert "dev/bnncc/BnnccPicture.class" in classes
    assert all(name.startswith("dev/bnncc/Bnncc") for name in classes)
    native = re.findall(r"external fun (\w+)", KOTLIN.read_text())
    assert native == ["create", "destroy"]
