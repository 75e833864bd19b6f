"""What a deployment has to know of a bundle."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnncc.bundle.android_toolchain import ABIS
from bnncc.bundle.manifest import MANIFEST, read_manifest
from bnncc.errors import BnnccError, InputError
from bnncc.system.files import is_plain_file

# run.py and the program for Android's shell exit with it where their check fails.
CHECK_FAILED = 3


class DeployError(BnnccError):
    """The device cannot be reached, or a command fails on it; its own message has been printed."""


class DeviceCheckError(BnnccError):
    """The network yields something else on the device than it does here."""

    exit_code = 1


# What files of a bundle may be called: nothing that ssh, scp, adb or a shell takes for anything but a name.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# The longest name of a folder on the device.
LONGEST_NAME = 100


@dataclass(frozen=True)
class Bundle:
    """folder: absolute.  abi: the device's.  files: those that its manifest lists, absolute and there.

    others: the names of what lies in the folder beside them and is left behind.
    """

    folder: Path
    abi: str
    files: tuple[Path, ...]
    others: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Read the manifest.  A bundle may come from a stranger: nothing of it is taken on trust.

        Raises InputError where `folder` is no bundle, where the manifest lists what is no plain file of it (a link
        would copy some other file of this machine), or a name that a command could read as something else.
        """
        absolute = Path(folder).absolute()
        manifest = read_manifest(absolute)
        files = []
        for name in manifest.files:
            parts = name.split("/")
            if not all(PLAIN_NAME.fullmatch(part) for part in parts):
                raise InputError(f"{folder}: {MANIFEST} lists {name!r}, which is no name of a file of a bundle")
            path = absolute.joinpath(*parts)
            if not is_plain_file(path) or any(parent.is_symlink() for parent in path.parents[: len(parts) - 1]):
                raise InputError(f"{folder}: {MANIFEST} lists {name}, which is not there as a plain file")
            files.append(path)
        listed = {path.relative_to(absolute).parts[0] for path in files} | {MANIFEST}
        others = sorted(path.name for path in absolute.iterdir() if path.name not in listed)
        return cls(absolute, manifest.abi, (absolute / MANIFEST, *files), tuple(others))

    @property
    def is_for_android(self) -> bool:
        """Whether the device is a phone."""
        return self.abi in ABIS

    @property
    def remote_name(self) -> str:
        """What the folder is called on the device: letters, digits, dots, dashes and underscores."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", self.folder.resolve().name).lstrip(".-")
        return name[:LONGEST_NAME] or "bundle"

    def flat_files(self) -> tuple[Path, ...]:
        """The files that lie in the folder itself."""
        return tuple(path for path in self.files if path.parent == self.folder)


def left_behind(bundle: Bundle) -> str | None:
    """A word on what is not copied; None where everything is."""
    if not bundle.others:
        return None
    names = ", ".join(map(repr, bundle.others[:5])) + (", …" if len(bundle.others) > 5 else "")
    return f"{len(bundle.others)} of {bundle.folder.name} not copied, because {MANIFEST} does not list it: {names}"


def find_program(name: str, package: str) -> str:
    """The path of a program of this machine.  DeployError where it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise DeployError(f"there is no {name} on this machine: apt install {package}")
    return found


def run(command: Sequence[str], what: str) -> None:
    """Run a command whose output the user sees.  DeployError says that `what` failed, where it does."""
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise DeployError(f"{what} failed with status {status}")


def run_check(command: Sequence[str], what: str) -> None:
    """Run a check on the device: DeviceCheckError behind CHECK_FAILED, DeployError behind any other but 0."""
    status = subprocess.run(command, check=False).returncode
    if status == CHECK_FAILED:
        raise DeviceCheckError("the network yields something else on the device than on the computer of the bundle")
    if status != 0:
        raise DeployError(f"{what} failed with status {status}")
