"""`bnncc inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from bnncc.cli.options import FILE
from bnncc.cli.reporting import json_option, quiet_option, reporter
from bnncc.cli.terminal import output
from bnncc.errors import InputError


@click.command("inspect")
@click.argument("path", metavar="FILE.tflite", type=FILE)
@json_option
@quiet_option
def inspect_command(path: Path) -> None:
    """Print the operators of a .tflite file in order: shapes, types, packed or not, bytes of weights, MACs."""
    from bnncc import report
    from bnncc.targets.tflite.reader import TfliteFile

    file = TfliteFile.open(path)
    try:
        reporter().document = {"file": path, **report.inspection(file)}
        report.print_inspection(output(), file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
