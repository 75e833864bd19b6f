"""`bnncc check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnncc.cli.options import (
    FILE,
    DataOptions,
    chosen_runtimes,
    data_options,
    model_option,
    network_options,
    runtime_option,
)
from bnncc.cli.progress import progress_bars
from bnncc.cli.reporting import json_file_option, quiet_option, reporter
from bnncc.cli.terminal import INTERRUPTED, output, warn
from bnncc.errors import CheckFailedError, InputError
from bnncc.system.names import as_utf8

if TYPE_CHECKING:
    from bnncc.check import CheckResult
    from bnncc.frontend import NetworkSource

# How many batches go through --layers.
LAYER_INPUTS = 16


@click.command("check")
@click.argument("path", metavar="FILE.tflite", type=FILE)
@network_options(model_option)
@data_options("A .npz, a folder of class folders, a video, or file.py:callable.", required=True)
@click.option("--layers", is_flag=True, help="Also compare every binary layer, fed the network's own inputs.")
@click.option(
    "--layer-inputs",
    type=click.IntRange(1),
    default=LAYER_INPUTS,
    show_default=True,
    help="How many inputs --layers takes.",
)
@click.option("--baseline", type=FILE, help="A float .tflite file of the same network, to be put beside it.")
@click.option("--min-agreement", metavar="PERCENT", help="Exit with 1 where fewer images keep their class: 99.9%.")
@click.option("--max-accuracy-drop", metavar="POINTS", help="Exit with 1 where top-1 accuracy drops by more: 0.5%.")
@runtime_option
@json_file_option
@click.option("--html", "html_file", type=FILE, help="Write the report as one web page.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, each on one thread.")
@click.option("--dask", metavar="tcp://HOST:PORT", help="Use the workers of this dask scheduler.")
@click.option("--resume", type=FILE, help="Keep what is measured here, and go on from it.")
@quiet_option
@click.pass_context
def check_command(
    context: click.Context,
    path: Path,
    network: NetworkSource,
    data: DataOptions,
    layers: bool,
    layer_inputs: int,
    baseline: Path | None,
    min_agreement: str | None,
    max_accuracy_drop: str | None,
    runtime: str,
    json_file: Path | None,
    html_file: Path | None,
    jobs: int,
    dask: str | None,
    resume: Path | None,
) -> None:
    """Compare FILE.tflite with the network that it was compiled from, on your own images.

    Exit code 0: done. 1: less agreement than asked for, or a layer that is not the network's. 2: something is wrong
    with the input. 130: interrupted; what was measured is printed.
    """
    from bnncc.check import CheckOptions, check_file
    from bnncc.check.page import MOST_IMAGES
    from bnncc.check.report import print_check
    from bnncc.system.files import check_writable, keep_apart, write_atomically

    for file in (json_file, html_file, resume):
        if file is not None:
            check_writable(file)
    outputs = {"--json": json_file, "--html": html_file, "--resume": resume}
    keep_apart(outputs, (path, baseline, *network.files, *data.files))
    options = CheckOptions(
        layers=layer_inputs if layers else 0,
        jobs=jobs,
        dask=dask,
        resume=resume,
        baseline=baseline,
        skip_bad_images=data.skip_bad_images,
        runtimes=chosen_runtimes(runtime),
        min_agreement=_share("--min-agreement", min_agreement),
        max_accuracy_drop=_share("--max-accuracy-drop", max_accuracy_drop),
        pictures=MOST_IMAGES if html_file is not None else 0,
    )
    with progress_bars() as progress:
        result = check_file(
            path,
            network,
            data.source,
            options,
            progress,
            preprocessing=data.preprocessing,
            classes=data.classes,
        )
    for warning in result.warnings:
        warn(warning)
    print_check(output(), result)
    reporter().document = result.as_json()
    if json_file is not None:
        write_atomically(json_file, as_utf8(json.dumps(result.as_json(), indent=2, ensure_ascii=False) + "\n"))
    if html_file is not None:
        _write_page(html_file, path, result)
    if not result.complete:
        click.echo(f"interrupted: {result.images:,} of {result.total:,} images were measured", err=True)
        context.exit(INTERRUPTED)
    if result.failures:
        raise CheckFailedError("the check failed:\n" + "\n".join(f"  {failure}" for failure in result.failures))


def _share(option: str, text: str | None) -> float | None:
    """0.999 from "99.9" or "99.9%"."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%"))
    except ValueError as error:
        raise InputError(f"{option}: cannot read {text!r}: write a percentage, as 99.9%") from error
    if not 0 <= value <= 100:
        raise InputError(f"{option}: {text} is no percentage")
    if option == "--min-agreement" and 0 < value <= 1 and not text.endswith("%"):
        raise InputError(f"{option}: is {text} a share? Write {value:.1%} for that, {text}% if you mean it")
    return value / 100


def _write_page(html_file: Path, path: Path, result: CheckResult) -> None:
    from bnncc.check.page import write_page
    from bnncc.inspect import summarize
    from bnncc.system.files import write_atomically
    from bnncc.targets.tflite.reader import TfliteFile

    page = write_page(result, summarize(TfliteFile.open(path)), result.pictures.get)
    write_atomically(html_file, as_utf8(page))
