"""A Raspberry Pi, or whatever runs a bundle for one, by the system's OpenSSH client."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from bnncc.deploy.bundle import find_program, is_for_android, remote_name, run, run_check
from bnncc.errors import InputError

# Where bundles go, in the home directory.
FOLDER = "bnncc"


@dataclass(frozen=True)
class Host:
    """address: user@host, or a name of ~/.ssh/config.  port, identity: as ssh's -p and -i take them.

    python: the Python on the device that has run.py's packages.
    """

    address: str
    port: int | None = None
    identity: Path | None = None
    python: str = "python3"

    def deploy(self, folder: Path, threads: int | None = None) -> None:
        """Copy the bundle; run its check, then its measurement.

        Never asks for a password.  Raises InputError where the bundle is for Android or the address is none,
        DeployError where the host cannot be reached or has not what run.py needs, DeviceCheckError where the check
        fails.
        """
        if self.address.startswith("-") or not self.address:
            raise InputError(f"{self.address!r} is no address: write user@host")
        if is_for_android(folder):
            raise InputError(f"{folder} is for Android: bnncc deploy --adb {folder}")
        remote = f"{FOLDER}/{remote_name(folder)}"
        run(self._ssh(f"mkdir -p {remote}"), f"making {remote} on {self.address}")
        files = [str(path) for path in sorted(folder.iterdir()) if path.is_file()]
        run([*self._command("scp", "-P"), "-q", *files, f"{self.address}:{remote}/"], f"copying to {self.address}")
        program = f"cd {remote} && {shlex.quote(self.python)} run.py"
        options = "" if threads is None else f" --threads {threads}"
        run_check(self._ssh(f"{program} --check{options}"), f"run.py --check on {self.address}")
        run(self._ssh(f"{program} --bench{options}"), f"run.py --bench on {self.address}")

    def _ssh(self, command: str) -> list[str]:
        return [*self._command("ssh", "-p"), self.address, command]

    def _command(self, name: str, port_option: str) -> list[str]:
        command = [find_program(name, "openssh-client"), "-o", "BatchMode=yes"]
        if self.port is not None:
            command += [port_option, str(self.port)]
        if self.identity is not None:
            command += ["-i", str(self.identity)]
        return command
