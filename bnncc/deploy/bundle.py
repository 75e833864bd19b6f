"""What a deployment has to know of a bundle."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bnncc.bundle.android_toolchain import ABIS
from bnncc.bundle.bundle import MANIFEST
from bnncc.errors import BnnccError, InputError

# run.py and the program for Android's shell exit with it where their check fails.
CHECK_FAILED = 3


class DeployError(BnnccError):
    """The device cannot be reached, or a command fails on it; its own message has been printed."""


class DeviceCheckError(BnnccError):
    """The network yields something else on the device than it does here."""

    exit_code = 1


def is_for_android(folder: Path) -> bool:
    """Whether the bundle is for Android.  Raises InputError where `folder` is no bundle."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["abi"] in ABIS
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is no bundle: make one with bnncc bundle") from error


def remote_name(folder: Path) -> str:
    """What the folder is called on the device: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", folder.resolve().name).lstrip(".-") or "bundle"


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
