"""A Raspberry Pi, or whatever runs a bundle for one, by the system's OpenSSH client.

ssh and scp read what begins with '-' as an option, what holds ':' before a '/' as a remote path, and '%' and '${' in an
identity's name as something to expand.  So they get `--` before what is no option, absolute local paths, and addresses
and identities of a form that holds none of these.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from bnncc.deploy.bundle import Bundle, find_program, run, run_check
from bnncc.errors import InputError

# Where bundles go, in the home directory.
FOLDER = "bnncc"
# user@host: letters, digits, '.', '_' and '-', the first of each none of '.' and '-'; or an IPv6 address.
USER, NAME = r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?", r"(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*)"
IPV6 = r"\[?(?P<ipv6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]?"
ADDRESS = re.compile(f"{USER}(?:{NAME}|{IPV6})")


@dataclass(frozen=True)
class Host:
    """address: user@host, or a name of ~/.ssh/config.  port, identity: as ssh's -p and -i take them.

    python: the Python on the device that has run.py's packages.
    """

    address: str
    port: int | None = None
    identity: Path | None = None
    python: str = "python3"

    def deploy(self, bundle: Bundle, threads: int | None = None) -> None:
        """Copy the bundle; run its check, then its measurement.

        Never asks for a password.  Raises InputError where the bundle is for Android, or the address or identity is
        none, DeployError where the host cannot be reached or has not what run.py needs, DeviceCheckError where the
        check fails.
        """
        if bundle.is_for_android:
            raise InputError(f"{bundle.folder} is for Android: bnncc deploy --adb {bundle.folder}")
        address, for_scp = self._addresses()
        remote = f"{FOLDER}/{bundle.remote_name}"
        run(self._ssh(address, f"mkdir -p {remote}"), f"making {remote} on {address}")
        copy = [*self._command("scp", "-P"), "-q", "--", *map(str, bundle.flat_files()), f"{for_scp}:{remote}/"]
        run(copy, f"copying to {address}")
        program = f"cd {remote} && {shlex.quote(self.python)} run.py"
        options = "" if threads is None else f" --threads {threads}"
        run_check(self._ssh(address, f"{program} --check{options}"), f"run.py --check on {address}")
        run(self._ssh(address, f"{program} --bench{options}"), f"run.py --bench on {address}")

    def _addresses(self) -> tuple[str, str]:
        """(what ssh takes, what scp takes before the ':'): they differ for IPv6.  InputError where it is none."""
        found = ADDRESS.fullmatch(self.address)
        if found is None:
            raise InputError(f"{self.address!r} is no address: write user@host, or a name of ~/.ssh/config")
        user = f"{found['user']}@" if found["user"] else ""
        if found["ipv6"]:
            return f"{user}{found['ipv6']}", f"{user}[{found['ipv6']}]"
        return self.address, self.address

    def _ssh(self, address: str, command: str) -> list[str]:
        return [*self._command("ssh", "-p"), "--", address, command]

    def _command(self, name: str, port_option: str) -> list[str]:
        command = [find_program(name, "openssh-client"), "-o", "BatchMode=yes"]
        if self.port is not None:
            command += [port_option, str(self.port)]
        if self.identity is not None:
            command += ["-i", self._identity(self.identity)]
        return command

    def _identity(self, path: Path) -> str:
        absolute = str(path.absolute())
        if not path.is_file():
            raise InputError(f"--identity: there is no file {path}")
        if "%" in absolute or "${" in absolute:
            raise InputError(f"--identity: ssh would expand '%' and '${{' in {path}: give the file another name")
        return absolute
