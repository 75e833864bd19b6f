"""A wheel of bnncc-runtime, made quickly."""

from __future__ import annotations

from pathlib import Path

from wheel.wheelfile import WheelFile

from bnncc.runtime.build import Platform, compile_library, zig
from bnncc.wheels.contents import write_platform_wheel
from bnncc.wheels.platforms import tag

PACKAGE = Path(__file__).parent.parent.parent / "targets" / "bnncc_runtime" / "bnncc_runtime"


def write_wheel(target: Platform, folder: Path) -> Path:
    """With the delegate alone: the interpreter would take long to compile."""
    pure = folder / "bnncc_runtime-0.1.0-py3-none-any.whl"
    with WheelFile(pure, "w") as wheel:
        for path in sorted(PACKAGE.glob("*.py")):
            wheel.writestr(f"bnncc_runtime/{path.name}", path.read_bytes())
        information = "bnncc_runtime-0.1.0.dist-info"
        wheel.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: bnncc-runtime\nVersion: 0.1.0\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    library = folder / target.library
    compile_library(zig(target), target, library)
    written = write_platform_wheel(
        pure, tag(target), {f"bnncc_runtime/{library.name}": library.read_bytes()}, {}, (), folder
    )
    pure.unlink()
    return written
