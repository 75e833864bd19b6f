"""What a bundle for a Raspberry Pi holds: the delegate, run.py and a README."""

from __future__ import annotations

import shutil
from pathlib import Path

from bnncc.bundle.check_data import CheckData
from bnncc.bundle.toolchain import LINUX, compile_for_linux
from bnncc.inference import Model
from bnncc.runtime.build import needed_glibc
from bnncc.system.names import as_utf8
from bnncc.targets.description import Target
from bnncc.targets.released import package

FILES = Path(__file__).parent / "files" / "raspberry_pi"
LIBRARY = "libbnncc_runtime.so"
REQUIREMENTS = "requirements.txt"
# Of two versions, the older one is for Pythons that the newer one has no wheel for: Raspberry Pi OS Bullseye's.
OLDER, NEWER = 'python_version < "3.10"', 'python_version >= "3.10"'
# How run.py says it too.  tflite-runtime is LiteRT's older name; it alone has wheels for 32-bit ARM, built against
# NumPy 1, which Debian Bookworm has; the package index has no NumPy and no Pillow for it.
INSTALL = {
    "aarch64": """\
    python3 -m venv .venv        # where that fails: sudo apt install python3-venv
    .venv/bin/pip install -r requirements.txt numpy pillow""",
    "armv7": """\
    sudo apt install python3-venv python3-numpy python3-pil
    python3 -m venv --system-site-packages .venv
    .venv/bin/pip install -r requirements.txt""",
}
# On Raspberry Pi OS: docs/raspberry_pi_os.md.
IMAGES = {
    "aarch64": "On Raspberry Pi OS Bullseye, Bookworm and Trixie, 64-bit.",
    "armv7": """\
On Raspberry Pi OS Bookworm, 32-bit (Python 3.8 to 3.11 and glibc 2.34 or later).  There is no TensorFlow Lite for
Trixie's Python 3.13: there the wheel of bnncc-runtime runs `model.tflite`, as run.py says.  For Bullseye there is
neither.""",
}

README = """\
# {name}, for {title}

Made by bnncc: a binary neural network and all that it needs beside Python's packages.

{install}
    .venv/bin/python run.py image.jpg    # the classes with the largest logits
    .venv/bin/python run.py --check      # the same outputs as on the computer that made this folder?
    .venv/bin/python run.py --bench      # how long does an image take?
    .venv/bin/python run.py --camera     # what the camera sees, till Ctrl-C; run.py says what that needs
    .venv/bin/python run.py video.mp4    # the same of a video, with PyAV: .venv/bin/pip install 'av>=14.1'

{images}

- `model.tflite`: the network; its binary layers are operators of Larq Compute Engine.
- `{library}`: runs them; LiteRT, and TensorFlow Lite from 2.14 on, load it as an external delegate.  It
  needs glibc {glibc} or later.
- `{requirements}`: the interpreter in exactly the version that this file was proven for, by `docs/conformance.md` of
  bnncc; with another one, `run.py --check` says so.
- `run.py`: loads both, and `network.py` has what it does with pictures; start from them for your own program.
- `bundle.json`{labels}: how pictures become the network's input{labels_meaning}.
- `check.npz`: images and the outputs that are expected for them.
"""


def write_raspberry_pi(model: Model, target: Target, compiler: str, check: CheckData, folder: Path) -> None:
    """Write to `folder` what is special to a Raspberry Pi.  BuildError where the delegate cannot be compiled."""
    compile_for_linux(target, compiler, folder / LIBRARY)
    (folder / "check.npz").write_bytes(check.npz())
    for name in ("network.py", "run.py"):
        shutil.copyfile(FILES / name, folder / name)
    (folder / "run.py").chmod(0o755)
    (folder / REQUIREMENTS).write_text(requirements(target), encoding="utf-8")
    readme = README.format(
        requirements=REQUIREMENTS,
        name=model.path.name,
        title=target.title,
        install=INSTALL[LINUX[target.abi].machine],
        images=IMAGES[LINUX[target.abi].machine],
        library=LIBRARY,
        glibc=".".join(map(str, needed_glibc(folder / LIBRARY))),
        labels=", `labels.txt`" if model.classes else "",
        labels_meaning=", and its classes' names" if model.classes else "",
    )
    (folder / "README.md").write_bytes(as_utf8(readme))


def proven(target: Target) -> dict[str, list[str]]:
    """By package, the versions of the interpreters that the target may have and that its files are proven for."""
    found: dict[str, list[str]] = {}
    for runtime in dict.fromkeys(target.runtimes):
        name, version = package(runtime)
        found.setdefault(name, []).append(version)
    return found


def requirements(target: Target) -> str:
    """What pip installs of them: the newest that it has for this Python."""
    lines = ["# The interpreters that bnncc proved this file for."]
    for name, versions in proven(target).items():
        marks = [f"; {mark}" for mark in (OLDER, NEWER)] if len(versions) == 2 else [""]
        lines += [f"{name}=={version}{mark}" for version, mark in zip(versions, marks, strict=True)]
    return "\n".join(lines) + "\n"
