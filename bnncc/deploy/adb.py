"""An Android phone, by adb."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bnncc.bundle.android import PROGRAM, shell_files
from bnncc.deploy.bundle import find_program, is_for_android, remote_name, run, run_check
from bnncc.errors import InputError

# Where the shell of a phone may write and run programs.
FOLDER = "/data/local/tmp/bnncc"


@dataclass(frozen=True)
class Phone:
    """serial: as `adb devices` lists it; needed where several phones are connected."""

    serial: str | None = None

    def deploy(self, folder: Path, threads: int | None = None) -> None:
        """Copy what the program for the shell needs; run its check, then its measurement.

        Raises InputError where the bundle is not for Android or has no such program, DeployError where adb fails,
        DeviceCheckError where the check fails.
        """
        if not is_for_android(folder):
            raise InputError(f"{folder} is not for Android: bnncc deploy user@host {folder}")
        files = shell_files(folder)
        if folder / PROGRAM not in files:
            raise InputError(f"{folder} has no {PROGRAM}: make the bundle again with this version of bnncc")
        remote = f"{FOLDER}/{remote_name(folder)}"
        run(self._adb("shell", f"mkdir -p {remote}"), f"making {remote} on the phone")
        run(self._adb("push", *map(str, files), f"{remote}/"), "copying to the phone")
        run(self._adb("shell", f"chmod 755 {remote}/{PROGRAM}"), "chmod on the phone")
        program = f"cd {remote} && ./{PROGRAM}"
        options = "" if threads is None else f" --threads {threads}"
        run_check(self._adb("shell", f"{program} --check{options}"), f"{PROGRAM} --check on the phone")
        run(self._adb("shell", f"{program} --bench{options}"), f"{PROGRAM} --bench on the phone")

    def _adb(self, *arguments: str) -> list[str]:
        serial = [] if self.serial is None else ["-s", self.serial]
        return [find_program("adb", "adb"), *serial, *arguments]
