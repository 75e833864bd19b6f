"""What pip finds on images of Raspberry Pi OS; writes docs/raspberry_pi_os.md.

    python -m tests.bundle.images

Asks the package index that pip is set up for, as the pip of an image would: for its Python and the tags that its glibc
and machine allow.  Python and glibc of an image are those of the Debian release that it is made from.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "raspberry_pi_os.md"
# The oldest glibc that wheels are named after; manylinux2014 is its other name.
OLDEST_GLIBC = 17


@dataclass(frozen=True)
class Image:
    """name: of the release.  python: its own.  glibc: the second number of its version, 2.x."""

    name: str
    python: str
    glibc: int

    def tags(self, machine: str) -> list[str]:
        """The platform tags that its pip takes, the best first."""
        numbered = [f"manylinux_2_{minor}_{machine}" for minor in range(self.glibc, OLDEST_GLIBC - 1, -1)]
        return [*numbered, f"manylinux2014_{machine}", f"linux_{machine}"]


IMAGES = (Image("Bullseye", "3.9", 31), Image("Bookworm", "3.11", 36), Image("Trixie", "3.13", 41))
MACHINES = {"aarch64": "64-bit", "armv7l": "32-bit"}
PACKAGES = ("ai-edge-litert", "tflite-runtime", "numpy", "pillow")

HEAD = """\
# Raspberry Pi OS

Made by `python -m tests.bundle.images`; not by hand.  Which wheels the package index has for the Python of each
release, its glibc and its machine.  32-bit Raspberry Pi OS also asks piwheels, which was not asked here; `apt` has
NumPy and Pillow for every release.

"""

TAIL = """
What follows from it, and what `run.py` of a bundle says on each:

- **64-bit**, all three: `ai-edge-litert`, in a virtual environment.  From Bookworm on, pip refuses to install outside
  of one ("externally-managed-environment", PEP 668).
- **32-bit Bookworm**: `tflite-runtime` 2.14 with Debian's own NumPy (1.24) and Pillow, in a virtual environment with
  `--system-site-packages`.
- **32-bit Trixie**: no TensorFlow Lite.  The wheel of `bnncc-runtime` has bnncc's own interpreter.
- **32-bit Bullseye**: its glibc is too old for `tflite-runtime` 2.14, whose wheels need 2.34; 2.13 takes no delegates
  of today's; and its Python 3.9 is too old for `bnncc-runtime`.  No package of Python runs a file there.
- 32-bit images boot a kernel of 64 bits on Raspberry Pi 3 and later, and Python's `platform.machine()` is then
  `aarch64`: pip and bnncc tell 32 bits by Python itself.
- **Raspberry Pi 1 and Zero** are ARMv6, without NEON: `run.py` refuses.  So it does in a **soft-float** (armel) system.
- **Alpine** and other systems with musl: no TensorFlow Lite; the wheels of `bnncc-runtime` for musl have bnncc's own
  interpreter.
- LiteRT's **CompiledModel** of the wheels needs ARMv8.1's atomics, which Raspberry Pi 5 has, and 3, 4 and Zero 2 have
  not ([the delegate in every runtime](conformance_delegate.md)).
"""


def found_version(package: str, image: Image, machine: str) -> str:
    """What pip would install of it; "–" for nothing."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps",
               "--only-binary=:all:", f"--python-version={image.python}", "--implementation=cp"]  # fmt: skip
    command += [f"--platform={tag}" for tag in image.tags(machine)]
    with tempfile.TemporaryDirectory() as folder:
        command += [f"--target={folder}", f"--report={folder}/report", package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            if "No matching distribution" not in done.stderr:
                raise SystemExit(done.stderr)
            return "–"
        (entry,) = json.loads((Path(folder) / "report").read_text())["install"]
    return str(entry["metadata"]["version"])


def table() -> Iterator[str]:
    """In Markdown."""
    yield f"| image | Python | glibc | {' | '.join(PACKAGES)} |"
    yield f"| --- | --- | --- |{' --- |' * len(PACKAGES)}"
    for machine, title in MACHINES.items():
        for image in IMAGES:
            versions = [found_version(package, image, machine) for package in PACKAGES]
            yield f"| {image.name}, {title} | {image.python} | 2.{image.glibc} | {' | '.join(versions)} |"


def main() -> int:
    """Write the page."""
    PAGE.write_text(f"{HEAD}{chr(10).join(table())}\n{TAIL}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
