"""An Android phone, by adb."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bnncc.bundle.android import PROGRAM, SHELL_FILES
from bnncc.deploy.bundle import Bundle, find_program, run, run_check
from bnncc.errors import InputError

# Where the shell of a phone may write and run programs.
FOLDER = "/data/local/tmp/bnncc"
# A serial number, or host:port of adb over the network.
SERIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]*")


@dataclass(frozen=True)
class Phone:
    """serial: as `adb devices` lists it; needed where several phones are connected."""

    serial: str | None = None

    def deploy(self, bundle: Bundle, threads: int | None = None) -> None:
        """Copy what the program for the shell needs; run its check, then its measurement.

        Raises InputError where the bundle is not for Android or has no such program, DeployError where adb fails,
        DeviceCheckError where the check fails.
        """
        if self.serial is not None and not SERIAL.fullmatch(self.serial):
            raise InputError(f"--serial: {self.serial!r} is no serial number; `adb devices` lists them")
        if not bundle.is_for_android:
            raise InputError(f"{bundle.folder} is not for Android: bnncc deploy user@host {bundle.folder}")
        files = [path for path in bundle.flat_files() if path.name in SHELL_FILES]
        if bundle.folder / PROGRAM not in files:
            raise InputError(f"{bundle.folder} has no {PROGRAM}: make the bundle again with this version of bnncc")
        remote = f"{FOLDER}/{bundle.remote_name}"
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
