"""`bnncc verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnncc.cli.options import FILE, model_option, network_options
from bnncc.cli.reporting import json_option, quiet_option, reporter
from bnncc.cli.terminal import say
from bnncc.errors import CheckFailedError

if TYPE_CHECKING:
    from bnncc.frontend import NetworkSource


@click.command("verify")
@click.argument("path", metavar="FILE.tflite", type=FILE)
@network_options(model_option)
@json_option
@quiet_option
def verify_command(path: Path, network: NetworkSource) -> None:
    """Prove that FILE.tflite is the file that a network compiles to, to the byte.  No data are needed.

    Exit code 0: it is. 1: it is not; what differs is named. 2: something is wrong with the input.
    """
    from bnncc.check import verify_file
    from bnncc.check.report import identity

    differences = verify_file(path, network)
    reporter().document = {"file": path, "differences": differences}
    if differences.problems:
        problems = "\n".join(f"  {problem}" for problem in differences.problems)
        raise CheckFailedError(f"{path} is not what {network.name} compiles to:\n{problems}")
    say(f"{path}: {identity(differences, network.name)}")
