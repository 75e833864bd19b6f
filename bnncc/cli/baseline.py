"""`bnncc baseline`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnncc.cli.options import FILE, INPUT_COUNT, DataOptions, data_options, network_options, require_memory_for
from bnncc.cli.progress import working
from bnncc.cli.reporting import quiet_option
from bnncc.cli.terminal import output as standard_output
from bnncc.cli.terminal import warn

if TYPE_CHECKING:
    from bnncc.frontend import NetworkSource

# How many inputs the file is checked on: so many random ones, or the first of the user's data.
CHECK_INPUTS = 2


@click.command("baseline")
@network_options(click.argument("source", metavar="NETWORK"))
@click.option("-o", "--output", type=FILE, required=True, help="The float .tflite file to write.")
@data_options(
    "Images to check on: a .npz, a folder of class folders, a video, or file.py:callable.", skip_bad_images=False
)
@click.option(
    "--inputs",
    "count",
    type=INPUT_COUNT,
    default=CHECK_INPUTS,
    show_default=True,
    help="How many inputs to check on.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the random inputs."
)
@quiet_option
def baseline_command(network: NetworkSource, output: Path, data: DataOptions, count: int, seed: int) -> None:
    """Make the float TensorFlow Lite file of NETWORK, to put beside the binary one (`bnncc check --baseline`).

    onnx2tf and TensorFlow make it (pip install 'bnncc[baseline]'), from the network with its batch norms folded.  Exit
    code 0: the file is written. 1: it is not the network; nothing is written. 2: it cannot be made.
    """
    from bnncc.baseline import make_baseline
    from bnncc.baseline.process import check_installed
    from bnncc.baseline.report import print_baseline
    from bnncc.frontend import trace_source
    from bnncc.ir.evaluate import random_inputs
    from bnncc.options import Options
    from bnncc.system.files import check_writable, keep_apart

    check_installed()
    check_writable(output)
    keep_apart({"-o": output}, (*network.files, *data.files))
    traced = trace_source(network)
    for warning in traced.warnings:
        warn(warning)
    options = Options(preprocessing=data.preprocessing, classes=data.classes)
    inputs = data.batches(traced.inputs, count)
    if not inputs:
        require_memory_for(count, traced.inputs)
        inputs = [random_inputs(traced.model, seed + index) for index in range(count)]
    # The converter takes from seconds to minutes, and does not say how far it is.
    with working("onnx2tf and TensorFlow convert the network"):
        baseline = make_baseline(traced, inputs, options)
    console = standard_output()
    print_baseline(console, traced, baseline)
    baseline.save(output)
    console.print(f"wrote {output}", markup=False)
