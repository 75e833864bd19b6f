"""`bnncc deploy`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bnncc.cli.options import FILE
from bnncc.cli.terminal import warn
from bnncc.errors import InputError


@click.command("deploy")
@click.argument("arguments", nargs=-1, required=True, metavar="[USER@HOST] DIR")
@click.option("--port", type=click.IntRange(1, 65535), help="The SSH server's port.")
@click.option("--identity", type=FILE, help="The private key to log in with.")
@click.option("--python", help="The Python on the host that has run.py's packages; python3 without it.")
@click.option("--adb", "uses_adb", is_flag=True, help="Deploy to an Android phone, with adb instead of SSH.")
@click.option("--serial", help="Which phone, as `adb devices` lists it.")
@click.option("--threads", type=click.IntRange(1, 64), help="Threads on the device.")
def deploy_command(
    arguments: Sequence[str],
    port: int | None,
    identity: Path | None,
    python: str | None,
    uses_adb: bool,
    serial: str | None,
    threads: int | None,
) -> None:
    """Copy the bundle DIR to a device, check it there and measure it.

    To USER@HOST by the system's ssh and scp, which must get in without a password, or to a phone: bnncc deploy --adb
    DIR.  Prints what the device says.  Exit code 1: the network yields something else there than here.
    """
    from bnncc.deploy import Host, Phone
    from bnncc.deploy.bundle import Bundle, left_behind

    given = {"--port": port, "--identity": identity, "--python": python}
    foreign = [name for name, value in (given if uses_adb else {"--serial": serial}).items() if value is not None]
    if foreign:
        raise InputError(f"{foreign[0]} does not go {'with' if uses_adb else 'without'} --adb")
    if len(arguments) != (1 if uses_adb else 2):
        raise InputError("write bnncc deploy user@host DIR, or bnncc deploy --adb DIR")
    bundle = Bundle.open(Path(arguments[-1]))
    word = left_behind(bundle)
    if word is not None:
        warn(word)
    if uses_adb:
        Phone(serial).deploy(bundle, threads)
    else:
        Host(arguments[0], port, identity, python or "python3").deploy(bundle, threads)
