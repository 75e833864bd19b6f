"""Makes the wheels and sdists of bnncc and bnncc-runtime, and the AAR for Android.

    python -m bnncc.wheels [--output dist] [PLATFORM …]      PLATFORM: as of --list; all without one

For every platform the native code is compiled with ziglang, once for these sources (`build/wheels`).  bnncc has a wheel
for each platform that its own requirements have wheels for, and one of Python alone, which compiles the delegate when
it is first needed; bnncc-runtime has one for each platform.  The AAR needs kotlinc as well: without it, and without a
PLATFORM, all else is made.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bnncc.runtime.build import PLATFORMS, BuildError, Platform
from bnncc.wheels.android import write_maven
from bnncc.wheels.contents import write_platform_wheel
from bnncc.wheels.kotlin import why_no_kotlin
from bnncc.wheels.native import compile_native, files_of_library
from bnncc.wheels.platforms import COMPILER_PLATFORMS, KERNEL_MAY_DIFFER, WITHOUT_LITERT, tag

REPOSITORY = Path(__file__).parent.parent.parent
RUNTIME = REPOSITORY / "targets" / "bnncc_runtime"
NATIVE = REPOSITORY / "build" / "wheels"
BY_NAME = {str(target).replace(" ", "-"): target for target in PLATFORMS}
ANDROID = "android"


def build_pure(project: Path, output: Path, *options: str) -> Path:
    """Write the sdist of the project, and the wheel of Python alone made of it, to `output`; the wheel's path."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "build", "--outdir", temporary, *options, str(project)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"{' '.join(command)}\nfailed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        for path in Path(temporary).iterdir():
            shutil.copy2(path, output / path.name)
        return output / next(Path(temporary).glob("*.whl")).name


def build_runtime(output: Path) -> Path:
    """The same of bnncc-runtime, whose sources are those of bnncc: links, for which their files are put first."""
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary) / "bnncc_runtime"
        shutil.copytree(RUNTIME, project, ignore=shutil.ignore_patterns("__pycache__", "fuzz"))
        return build_pure(project, output, "-Cwheel.cmake=false")


def write_wheels(target: Platform, compiler: Path, runtime: Path, output: Path) -> list[Path]:
    """The wheels for a platform, of the wheels of Python alone `compiler` (bnncc's) and `runtime`."""
    library, program = compile_native(target, NATIVE / str(target).replace(" ", "-"))
    programs = {program.name: program.read_bytes()}
    files = {f"bnncc_runtime/{library.name}": library.read_bytes()}
    without = ("ai-edge-litert", "tflite-runtime") if target in WITHOUT_LITERT else ()
    machine = KERNEL_MAY_DIFFER.get(target, "")
    written = [write_platform_wheel(runtime, tag(target), files, programs, without, output, machine)]
    if target in COMPILER_PLATFORMS:
        files = {f"bnncc/runtime/libraries/{name}": content for name, content in files_of_library(library, target)}
        written.append(write_platform_wheel(compiler, tag(target), files, programs, (), output))
    return written


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m bnncc.wheels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help="as of --list; all without one")
    parser.add_argument("--list", action="store_true", help="print the platforms")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", help="the folder of the wheels (dist)")
    arguments = parser.parse_args()
    names = [*BY_NAME, ANDROID]
    if arguments.list:
        print("\n".join(names))
        return
    unknown = sorted(set(arguments.platforms) - set(names))
    if unknown:
        parser.error(f"no such platform: {', '.join(unknown)}; there are {', '.join(names)}")
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    try:
        make_wheels([name for name in arguments.platforms or names if name != ANDROID], output)
        if ANDROID in arguments.platforms or (not arguments.platforms and why_no_kotlin() is None):
            with timed() as written:
                written.append(write_maven(output, NATIVE))
        elif not arguments.platforms:
            print(f"no AAR for Android: {why_no_kotlin()}", file=sys.stderr)
    except BuildError as error:
        sys.exit(str(error))


def make_wheels(names: Sequence[str], output: Path) -> None:
    """The sdists and wheels for the platforms of these names; nothing where there is none."""
    if not names:
        return
    compiler, runtime = build_pure(REPOSITORY, output), build_runtime(output)
    print(f"{compiler.name}, which compiles the delegate, and both sdists", flush=True)
    for name in names:
        with timed() as written:
            written.extend(write_wheels(BY_NAME[name], compiler, runtime, output))
    runtime.unlink()  # without a library it is of no use: pip takes the sdist


@contextmanager
def timed() -> Iterator[list[Path]]:
    """Print a line for each path that is put into the list, with its size and how long that took."""
    started, written = time.perf_counter(), list[Path]()
    yield written
    for path in written:
        print(f"{path.name}  {path.stat().st_size / 1e3:,.0f} kB  ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
