"""The runtimes, each in a virtual environment of its own, and how `served.py` is started in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bnncc.targets.released import RUNTIMES
from tests.needs import SYSROOTS
from tests.targets.runtime import sysroot

SCRIPT = Path(__file__).with_name("served.py")
ROOT = Path(__file__).parents[2]
# TensorFlow Lite's Python package, by version, with a Python of its time.
TFLITE = {"2.11": "3.9", "2.12": "3.9", "2.13": "3.9", "2.14": "3.11"}
NIGHTLY = "2.4.0.dev20261026"
LITERT = ("1.0.1", "1.1.2", "1.2.0", "1.3.0", "1.4.0", "2.0.3", "2.1.0", "2.1.6", "2.2.0", "2.3.0")


@dataclass(frozen=True)
class Environment:
    """A runtime.  kind: as served.py takes it.  python, packages: of its virtual environment, none for this one's own.

    machine: of `sysroot.MACHINES`, where it is emulated.  has_xnnpack: it can be turned on and off.  delegate: LCE's
    operators run in bnncc's.  claims: all files have signs beside them, so that the delegate computes what it can.
    home: the environment whose virtual environment it shares.  processor: of qemu's names, not the machine's own.
    """

    name: str
    kind: str
    python: str = ""
    packages: tuple[str, ...] = ()
    machine: str = ""
    has_xnnpack: bool = True
    delegate: bool = False
    claims: bool = False
    home: str = ""
    processor: str = ""

    def is_older_than(self, runtime: str) -> bool:
        """Whether it is older than one of `bnncc.targets.released.RUNTIMES`; never, where it is none of those."""
        own = ".".join(self.name.split(" ")[0].split(".")[:2])
        return own in RUNTIMES and RUNTIMES.index(own) < RUNTIMES.index(runtime)


def _tflite(version: str, python: str) -> Environment:
    return Environment(
        f"tflite-{version}", "tflite_runtime", python, (f"tflite-runtime=={version}.0", "numpy<2"),
        delegate=version == "2.14",
    )  # fmt: skip


def _litert(version: str) -> Environment:
    packages = (f"ai-edge-litert=={version}", "numpy<2")
    return Environment(f"litert-{version}", "ai_edge_litert", "3.11", packages, delegate=True)


def _nightly(version: str) -> Environment:
    packages = (f"ai-edge-litert-nightly=={version}", "numpy<2")
    return Environment(f"litert-{version}", "ai_edge_litert", "3.11", packages, delegate=True)


def _claiming(environment: Environment) -> Environment:
    return replace(environment, name=f"{environment.name} + delegate", claims=True, home=environment.name)


_STOCK = (
    Environment("tensorflow-2.2.0", "tensorflow", "3.8", ("tensorflow-cpu==2.2.0", "protobuf<3.21", "numpy<1.24"),
                has_xnnpack=False),
    *(_tflite(version, python) for version, python in TFLITE.items()),
    *map(_litert, LITERT),
    _nightly(NIGHTLY),
    Environment("tensorflow-2.21.0", "tensorflow", "3.11", ("tensorflow-cpu==2.21.0", "numpy<2"), delegate=True),
    Environment("lce-0.16", "lce"),
    Environment("bnncc", "bnncc", has_xnnpack=False),
    Environment("litert-2.3.0 aarch64", "ai_edge_litert", machine="aarch64", delegate=True),
    Environment("tflite-2.14 armv7", "tflite_runtime", machine="armv7", delegate=True),
)  # fmt: skip
# The oldest and the newest interpreter of each processor, and the one between TensorFlow Lite's and LiteRT's packages.
_CLAIMING = ("tflite-2.14", "litert-1.0.1", "litert-2.3.0", "litert-2.3.0 aarch64", "tflite-2.14 armv7")
ENVIRONMENTS = (*_STOCK, *(_claiming(one) for one in _STOCK if one.name in _CLAIMING))
# Where networks are run as well: the other interpreters that pip gives on 64-bit ARM, the oldest ones, and that of
# Raspberry Pi OS Bullseye.
_OLDEST = (("tflite-2.14 aarch64", "tflite_runtime", "tflite-runtime==2.14.0"),
           ("litert-1.1.0 aarch64", "ai_edge_litert", "ai-edge-litert==1.1.0"),
           ("litert-2.1.0 aarch64", "ai_edge_litert", "ai-edge-litert==2.1.0"))  # fmt: skip
OF_NETWORKS = (
    *(one for one in _STOCK if one.delegate or one.kind in ("lce", "bnncc")),
    *(Environment(name, kind, packages=(wheel, "numpy==1.26.4"), machine="aarch64", delegate=True)
      for name, kind, wheel in _OLDEST),
)  # fmt: skip
# Of the wheels on ARM that are older than those of the machine's own packages.
_PLATFORMS = ("manylinux_2_34_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")


def configurations(environment: Environment) -> Iterator[tuple[bool, int]]:
    """(XNNPACK, threads); the delegate has as many threads as its interpreter."""
    for xnnpack in (True, False) if environment.has_xnnpack else (False,):
        for threads in (1, 2):
            yield xnnpack, threads


def command(
    environment: Environment, folder: Path, xnnpack: bool, threads: int, library: str, script: Path = SCRIPT
) -> list[str]:
    """The command line of `script`, by default served.py, up to FORMS; makes the virtual environment in `folder` where
    it is not there.
    """
    arguments = [environment.kind, str(int(xnnpack)), str(threads), library]
    if environment.machine:
        packages = _emulated_packages(environment, folder) if environment.packages else None
        return sysroot.command(Path(SYSROOTS), environment.machine, [str(script), *arguments], packages=packages)
    return [str(_python(environment, folder)), str(script), *arguments]


def variables(environment: Environment) -> dict[str, str]:
    """What the command runs with."""
    if environment.machine:
        return sysroot.environment(environment.machine, environment.processor or None)
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _python(environment: Environment, folder: Path) -> Path:
    if not environment.packages:
        return Path(sys.executable)
    place = folder / (environment.home or environment.name)
    ready, python = place / "ok", place / "bin" / "python"
    if not ready.exists():
        subprocess.run([_interpreter(environment.python), "-m", "venv", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *environment.packages], check=True)
        ready.touch()
    return python


def _emulated_packages(environment: Environment, folder: Path) -> Path:
    place = folder / environment.name.replace(" ", "-")
    if not place.is_dir():
        sysroot.install(place, _PLATFORMS, environment.packages)
    return place


def _interpreter(version: str) -> str:
    """Python `version`, of the PATH or of pyenv.  SystemExit where there is none."""
    found = shutil.which(f"python{version}")
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [str(path / "bin" / "python") for path in sorted(versions.glob(f"{version}.*"))]
    works = [path for path in (*candidates, *([found] if found else [])) if _runs(path)]
    if not works:
        raise SystemExit(f"no Python {version}, which a runtime of its time needs")
    return works[0]


def _runs(path: str) -> bool:
    return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0
