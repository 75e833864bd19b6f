"""The command line: `bnncc compile`, `bnncc inspect`, `bnncc targets`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bnncc._version import __version__
from bnncc.errors import BnnccError, InputError, VerificationError

# How many inputs the file is verified on: so many random ones, or the first of the user's data.
VERIFICATION_INPUTS = 4
# So many of the user's own inputs go through the check of the trace, besides the random ones.
TRACE_CHECK_INPUTS = 2


class _Group(click.Group):
    """Prints a BnnccError without a traceback and exits with its code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BnnccError as error:
            click.secho("error: ", fg="red", bold=True, nl=False, err=True)
            click.echo(str(error), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="bnncc")
def main() -> None:
    """Compile PyTorch binary neural networks to TensorFlow Lite files that run on Larq Compute Engine."""


@main.command("compile")
@click.argument("source", metavar="NETWORK")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Checkpoint of the network: a state_dict, or one under state_dict/model.",
)
@click.option(
    "--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="Argument of the callable; repeat for several."
)
@click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    metavar="[NAME=]1x3x224x224",
    help="Shape of an input, NCHW; repeat for several.",
)
@click.option("--target", default="raspberry-pi-4", show_default=True, help="The device; `bnncc targets` lists them.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The .tflite file to write.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A .npz with images and labels: verifies on them, prints both accuracies.",
)
@click.option("--allow-partial-weights", is_flag=True, help="Accept missing and unexpected keys in the checkpoint.")
@click.option(
    "--input-layout",
    type=click.Choice(["nhwc", "nchw"]),
    default="nhwc",
    show_default=True,
    help="Layout of 4-D inputs and outputs in the file.",
)
@click.option(
    "--padding",
    type=click.Choice(["auto", "mirrored", "one-padded"]),
    default="auto",
    show_default=True,
    help="How zero padding that LCE cannot express is handled.",
)
@click.option(
    "--replication",
    type=click.Choice(["auto", "merge", "repeat"]),
    default="auto",
    show_default=True,
    help="Copies of a convolution's output: multiply again in bits, or copy floats.",
)
@click.option(
    "--zero-weights",
    type=click.Choice(["float", "plus-one"]),
    default="float",
    show_default=True,
    help="A layer of ±α with weights that are exactly 0: keep it in float, or read them as +α.",
)
@click.option(
    "--weights-precision",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Type in which the file holds the weights of float layers; binary layers stay as they are.",
)
@click.option("--dump-dir", type=click.Path(path_type=Path), help="Write the ONNX model after each pass here.")
@click.option(
    "--verify-passes", is_flag=True, help="Run every pass's result on random inputs; name the first that changed it."
)
@click.option(
    "--disable-pass",
    "disabled_passes",
    multiple=True,
    metavar="PASS",
    help="Leave a pass out, to see its share; repeat for several. -v lists their names.",
)
@click.option("--explain", is_flag=True, help="Print what became of every binary layer of the network, and why.")
@click.option(
    "--verify/--no-verify", "verifies", default=True, help="Prove the file against the reference before writing it."
)
@click.option(
    "--inputs",
    "count",
    type=click.IntRange(1),
    default=VERIFICATION_INPUTS,
    show_default=True,
    help="How many inputs to verify on.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random inputs.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Print every layer's verification and the time of each stage and pass."
)
def compile_command(
    source: str,
    weights: Path | None,
    arguments: Sequence[str],
    input_shapes: Sequence[str],
    target: str,
    output: Path,
    data: Path | None,
    allow_partial_weights: bool,
    input_layout: str,
    padding: str,
    replication: str,
    zero_weights: str,
    weights_precision: str,
    dump_dir: Path | None,
    verify_passes: bool,
    disabled_passes: Sequence[str],
    explain: bool,
    verifies: bool,
    count: int,
    seed: int,
    verbose: bool,
) -> None:
    """Compile NETWORK (file.py:callable, package.module:callable or a .onnx file) and prove the result.

    Exit code 0: the file is written. 1: it disagrees with the network; nothing is written. 2: something is wrong with
    the input; nothing is written.
    """
    # PyTorch takes a second to import: not for --help and mistyped options.
    from bnncc import report
    from bnncc.accuracy import measure_accuracy
    from bnncc.compiler import Options, check_writable, compile
    from bnncc.data import load_npz
    from bnncc.evaluate import random_inputs
    from bnncc.frontend import parse_argument
    from bnncc.passes.binary_weights import ZeroWeights
    from bnncc.passes.legalize import Padding
    from bnncc.passes.merge_replication import ReplicationMode
    from bnncc.targets import find_target
    from bnncc.targets.tflite import WeightsPrecision
    from bnncc.verification import verify

    console = Console(highlight=False, soft_wrap=True)
    find_target(target)
    check_writable(output)
    if data is not None and not data.exists():
        raise InputError(f"--data: {data} does not exist")
    options = Options(
        Padding(padding),
        input_layout == "nhwc",
        dump_dir,
        verify_passes,
        tuple(disabled_passes),
        ReplicationMode(replication),
        ZeroWeights(zero_weights),
        WeightsPrecision(weights_precision),
    )
    compiled = compile(
        source,
        target=target,
        weights=weights,
        arguments=dict(parse_argument(argument) for argument in arguments),
        input_shapes=input_shapes,
        allow_partial_weights=allow_partial_weights,
        options=options,
    )
    for warning in compiled.traced.warnings:
        _warn(warning)
    if not any(layer.reason is None for layer in compiled.layers):
        _warn("no binary layer was found: the file is an ordinary float TensorFlow Lite file")
    dataset = None if data is None else load_npz(data, compiled.traced.inputs)
    if dataset is not None:
        batch = compiled.traced.inputs[0].shape[0]
        compiled.traced.check_against_module([dataset.batch(index, batch) for index in range(TRACE_CHECK_INPUTS)])
    verification = accuracy = None
    if verifies:
        if dataset is not None:
            batch = compiled.traced.inputs[0].shape[0]
            inputs = [dataset.batch(index, batch) for index in range(min(count, -(-len(dataset) // batch)))]
        else:
            inputs = [random_inputs(compiled.traced.model, seed + index) for index in range(count)]
        with _progress("verifying") as advance:
            verification = verify(compiled, inputs, advance)
        zeros = sum(sign.zeros for sign in verification.signs)
        if zeros:
            _warn(
                f"{zeros:,} signs read an exact 0, where PyTorch's sign is 0 and a bit says +1: the file computes "
                "something else there. Write torch.where(x >= 0, 1.0, -1.0) if that is what the network means"
            )
    if dataset is not None and (verification is None or verification.passed):
        with _progress("measuring accuracy") as advance:
            accuracy = measure_accuracy(compiled, dataset, advance)
    report.print_compilation(console, compiled, verification, accuracy)
    if explain:
        report.print_explanation(console, compiled)
    if verbose:
        if verification is not None:
            report.print_layers(console, verification)
        report.print_seconds(console, compiled)
    if verification is not None and not verification.passed:
        raise VerificationError(
            "the compiled file disagrees with the network; nothing was written.\n"
            + "\n".join(f"  {problem}" for problem in verification.problems)
            + "\nThis is a bug in bnncc: run again with --verify-passes to see which pass made it."
        )
    compiled.save(output)
    console.print(f"wrote {output}", markup=False)


@main.command("inspect")
@click.argument("path", metavar="FILE.tflite", type=click.Path(path_type=Path))
def inspect_command(path: Path) -> None:
    """Print the operators of a .tflite file in order: shapes, types, packed or not, bytes of weights, MACs."""
    from bnncc import report
    from bnncc.targets.tflite.reader import TfliteFile

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        file = TfliteFile(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    report.print_inspection(Console(highlight=False, width=None if sys.stdout.isatty() else 160), file)


@main.command("targets")
def targets_command() -> None:
    """List the devices that --target takes."""
    from bnncc.targets import TARGETS

    for target in TARGETS.values():
        click.echo(f"{target.name:24}{target.title} ({target.abi}, {target.cores} x {target.core})")


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere.  Yields a function that takes (done, total)."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _warn(message: str) -> None:
    click.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
    click.echo(message, err=True)
