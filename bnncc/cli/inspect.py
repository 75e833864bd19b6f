"""`bnncc inspect`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bnncc.cli.options import FILE
from bnncc.cli.terminal import PlainConsole
from bnncc.errors import InputError


@click.command("inspect")
@click.argument("path", metavar="FILE.tflite", type=FILE)
def inspect_command(path: Path) -> None:
    """Print the operators of a .tflite file in order: shapes, types, packed or not, bytes of weights, MACs."""
    from bnncc import report
    from bnncc.targets.tflite.reader import TfliteFile

    file = TfliteFile.open(path)
    try:
        report.print_inspection(PlainConsole(width=None if sys.stdout.isatty() else 160), file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
