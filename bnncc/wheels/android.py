"""The delegate for Android's apps: an AAR, and the folder of a Maven repository that Gradle takes it from.

dist/maven/dev/bnncc/bnncc-runtime/0.1.0/
    bnncc-runtime-0.1.0.aar         AndroidManifest.xml, classes.jar, jni/ABI/libbnncc_runtime.so, …
    bnncc-runtime-0.1.0.pom
    *.md5 *.sha1 *.sha256 *.sha512
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from bnncc._version import __version__
from bnncc.bundle.android_toolchain import ABIS, API_LEVEL, LIBRARY, compile_app_library
from bnncc.wheels.kotlin import KOTLIN_LIBRARY, kotlin_jar, zipped
from bnncc.wheels.native import app_sources, is_current, sign

GROUP, ARTIFACT = "dev.bnncc", "bnncc-runtime"
CHECKSUMS = ("md5", "sha1", "sha256", "sha512")

MANIFEST = f"""\
<?xml version="1.0" encoding="utf-8"?>
<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="{GROUP}">
    <uses-sdk android:minSdkVersion="{API_LEVEL}" />
</manifest>
"""
# The library finds its functions by the names of the class and of its methods.
PROGUARD = "-keepclasseswithmembers,includedescriptorclasses class dev.bnncc.** { native <methods>; }\n"
PROPERTIES = "aarFormatVersion=1.0\naarMetadataVersion=1.0\n"
# TensorFlow Lite or LiteRT is the app's: a dependency on one would bring its classes beside those of the other.
POM = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://maven.apache.org/POM/4.0.0 http://maven.apache.org/xsd/maven-4.0.0.xsd">
  <modelVersion>4.0.0</modelVersion>
  <groupId>{GROUP}</groupId>
  <artifactId>{ARTIFACT}</artifactId>
  <version>{__version__}</version>
  <packaging>aar</packaging>
  <name>{ARTIFACT}</name>
  <description>A delegate for TensorFlow Lite and LiteRT: binary networks compiled by bnncc</description>
  <licenses>
    <license>
      <name>Apache-2.0</name>
      <url>https://www.apache.org/licenses/LICENSE-2.0.txt</url>
    </license>
  </licenses>
  <dependencies>
    <dependency>
      <groupId>org.jetbrains.kotlin</groupId>
      <artifactId>kotlin-stdlib</artifactId>
      <version>{KOTLIN_LIBRARY}</version>
      <scope>compile</scope>
    </dependency>
  </dependencies>
</project>
"""


def write_maven(output: Path, build: Path) -> Path:
    """Make the AAR in the folder of a Maven repository, `output`/maven; its path.

    build: where the libraries are compiled, for each ABI; what is there and fits is taken.  BuildError where a compiler
    is missing or fails.
    """
    jar = kotlin_jar()
    libraries = {abi: _library(abi, build / f"android-{abi}").read_bytes() for abi in ABIS}
    name = f"{ARTIFACT}-{__version__}"
    folder = output.joinpath("maven", *GROUP.split("."), ARTIFACT, __version__)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in ((f"{name}.aar", aar(jar, libraries)), (f"{name}.pom", POM.encode())):
        (folder / file).write_bytes(content)
        for kind in CHECKSUMS:
            (folder / f"{file}.{kind}").write_text(hashlib.new(kind, content).hexdigest())
    return folder / f"{name}.aar"


def aar(jar: bytes, libraries: Mapping[str, bytes]) -> bytes:
    """An AAR of the classes and the libraries by their ABIs."""
    return zipped({
        "AndroidManifest.xml": MANIFEST.encode(),
        "classes.jar": jar,
        "R.txt": b"",  # the list of resources
        "proguard.txt": PROGUARD.encode(),
        "META-INF/com/android/build/gradle/aar-metadata.properties": PROPERTIES.encode(),
        **{f"jni/{abi}/{LIBRARY}": library for abi, library in libraries.items()},
    })  # fmt: skip


def _library(abi: str, folder: Path) -> Path:
    """The library for an ABI, in `folder`; as it is where it fits."""
    folder.mkdir(parents=True, exist_ok=True)
    library, made_of = folder / LIBRARY, app_sources(abi)
    if not is_current(library, made_of):
        compile_app_library(abi, "zig", library)
        sign(library, made_of)
    return library
