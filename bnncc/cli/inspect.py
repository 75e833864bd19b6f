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
@click.option(
    "--latency",
    is_flag=True,
    help="How long each operator takes on the device, predicted and not measured: a range, with what it assumes.",
)
@click.option("--target", help="The device of --latency; that of the file without it.  `bnncc targets` lists them.")
@json_option
@quiet_option
def inspect_command(path: Path, latency: bool, target: str | None) -> None:
    """Print the operators of a .tflite file in order: shapes, types, packed or not, bytes of weights, MACs.

    With --latency, what each of them takes on a board, without the board: from instructions that were counted under
    emulation, and memory traffic.
    """
    from bnncc import report
    from bnncc.targets import find_target
    from bnncc.targets.tflite.reader import TfliteFile

    if target is not None and not latency:
        raise InputError("--target is the device of --latency: give both")
    file = TfliteFile.open(path)
    try:
        found = report.inspection(file)
        if not latency:
            reporter().document = {"file": path, **found}
            report.print_inspection(output(), file)
            return
        from bnncc.latency import predict

        name = target or found["metadata"].get("target")
        if name is None:
            raise InputError("the file does not say for which device it was compiled: give --target")
        predicted = predict(file, find_target(name))
        reporter().document = {"file": path, **found, "latency": report.latency_document(predicted)}
        report.print_latency(output(), predicted)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
