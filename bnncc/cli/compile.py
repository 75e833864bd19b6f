"""`bnncc compile`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnncc.cli.options import (
    FILE,
    INPUT_COUNT,
    DataOptions,
    as_one,
    choice_option,
    chosen_runtimes,
    data_options,
    network_options,
    require_memory_for,
    runtime_option,
)
from bnncc.cli.progress import progress_bars, working
from bnncc.cli.reporting import json_option, quiet_option, reporter
from bnncc.cli.terminal import output as standard_output
from bnncc.cli.terminal import warn
from bnncc.errors import InputError, VerificationError
from bnncc.system.memory import keep_imports, release_unused, without_collections

if TYPE_CHECKING:
    from bnncc.calibration import Calibration
    from bnncc.frontend import NetworkSource
    from bnncc.model import CompiledModel
    from bnncc.options import Options
    from bnncc.verification.result import Verification

# `bnncc.options.ValueType`, said again because importing it takes PyTorch.
VALUE_TYPES = ("float32", "uint8", "int8")
# `bnncc.calibration.METHODS`.
CALIBRATIONS = ("mse", "min-max", "percentile")
# `bnncc.targets.tflite.integers.SHORTCUTS`.
SHORTCUTS = ("float32", "int8", "int16")
# So many of the user's own inputs go through the check of the trace, besides the random ones.
TRACE_CHECK_INPUTS = 2
# Of a trained network's signs fewer than these read what only rounding keeps from 0.
SIGNS_BY_CHANCE = 1e-3


def _compile_options(
    input_layout: str,
    padding: str,
    replication: str,
    zero_weights: str,
    sign_of_zero: str,
    weights_precision: str,
    quantize: str,
    calibrate: str | None,
    calibration: str,
    keep_float: Sequence[str],
    max_accuracy_drop: str | None,
    shortcuts: str,
    min_runtime: str | None,
    input_types: Sequence[str],
    output_type: str,
    softmax: bool,
    argmax: bool,
    name: str,
    description: str,
    model_version: str,
    author: str,
    license: str,
    dump_dir: Path | None,
    verify_passes: bool,
    disabled_passes: Sequence[str],
) -> tuple[Options, Calibration | None]:
    from bnncc.calibration import DEFAULT_DROP, Calibration, accuracy_drop
    from bnncc.data import DataSource
    from bnncc.ir.modes import Padding, ReplicationMode, SignOfZero, ZeroWeights
    from bnncc.options import Head, Options, ValueType
    from bnncc.targets.tflite.precision import WeightsPrecision
    from bnncc.targets.tflite.public_metadata import Information
    from bnncc.verification.passes import first_difference

    if softmax and argmax:
        raise InputError("--softmax and --argmax: the largest probability is that of the largest logit; give one")
    if (quantize == "none") != (calibrate is None):
        missing, given = ("--quantize int8", "--calibrate") if quantize == "none" else ("--calibrate", "--quantize")
        raise InputError(f"{given} goes with {missing}: data tell between which numbers activations lie")
    if quantize == "none" and (keep_float or calibration != CALIBRATIONS[0]):
        raise InputError("--keep-float and --calibration go with --quantize int8")
    if quantize == "none" and shortcuts != SHORTCUTS[0]:
        raise InputError(f"--shortcuts {shortcuts} goes with --quantize int8")
    if quantize != "auto" and max_accuracy_drop is not None:
        raise InputError("--max-accuracy-drop goes with --quantize auto")
    if quantize != "none" and weights_precision != "float32":
        raise InputError("--quantize int8 and --weights-precision: what --quantize leaves in float is float32")
    input_type, byte_inputs = _input_type(input_types)
    options = Options(
        input_type=ValueType(input_type),
        byte_inputs=byte_inputs,
        output_type=ValueType(output_type),
        information=Information(name, description, model_version, author, license),
        head=Head.SOFTMAX if softmax else Head.ARGMAX if argmax else Head.NONE,
        padding=Padding(padding),
        channels_last=input_layout == "nhwc",
        dump_dir=dump_dir,
        compare_passes=first_difference if verify_passes else None,
        disabled_passes=tuple(disabled_passes),
        replication=ReplicationMode(replication),
        zero_weights=ZeroWeights(zero_weights),
        sign_of_zero=SignOfZero(sign_of_zero),
        weights_precision=WeightsPrecision(weights_precision),
        min_runtime=min_runtime,
    )
    if calibrate is None:
        return options, None
    max_drop = accuracy_drop(max_accuracy_drop or DEFAULT_DROP) if quantize == "auto" else None
    return options, Calibration(
        DataSource(calibrate), tuple(keep_float), calibration, max_drop=max_drop, shortcuts=shortcuts
    )


def signs_at_zero(verification: Verification) -> str | None:
    """What there is to know where more signs than chance explains read what only rounding keeps from 0."""
    signs = sum(sign.signs for sign in verification.signs)
    flipped = sum(sign.explained for sign in verification.signs)
    if flipped <= SIGNS_BY_CHANCE * signs:
        return None
    return (
        f"{flipped:,} of {signs:,} signs read sums that are 0 but for rounding, as before training: PyTorch's float "
        "sums and the file's integers fall to either side of it, and what follows differs. Of trained weights "
        "(--weights) few do"
    )


def _without_binary_layers(compiled: CompiledModel) -> str:
    """What is said where no layer runs as bits, and where its weights may be float by mistake."""
    from bnncc.passes.recognize_binary_conv import FLOAT_WEIGHTS
    from bnncc.targets.tflite.reader import TfliteFile

    has_bits = any(operator.name.startswith("Lce") for operator in TfliteFile(compiled.content).operators)
    kind = "has LCE's operators, for its signs alone" if has_bits else "is an ordinary float TensorFlow Lite file"
    text = f"no binary layer was found: the file {kind}"
    if any(layer.word == FLOAT_WEIGHTS.word for layer in compiled.layers):
        text += (
            ". Layers read signs, but their weights are floats: where the training script binarises weights outside of "
            "forward, as XNOR-Net's BinOp does, the callable has to load the weights and do the same"
        )
    return text


def _input_type(given: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """(the type, the inputs that were named) of TYPE and NAME=TYPE.  Raises InputError where they are no such types."""
    pairs = [text.rpartition("=")[::2] for text in given] or [("", VALUE_TYPES[0])]
    kinds = {kind for _, kind in pairs}
    unknown = next((kind for kind in kinds if kind not in VALUE_TYPES), None)
    if unknown is not None:
        raise InputError(f"--input-type: {unknown!r} is none of {', '.join(VALUE_TYPES)}")
    if len(kinds) > 1 or (len(pairs) > 1 and not all(name for name, _ in pairs)):
        raise InputError("--input-type: give one type, or one type for several inputs, NAME=TYPE each")
    return kinds.pop(), tuple(name for name, _ in pairs if name)


compile_options = as_one(
    "chosen",
    _compile_options,
    (
        choice_option("--input-layout", ("nhwc", "nchw"), "Layout of 4-D inputs and outputs in the file."),
        choice_option(
            "--padding",
            ("auto", "mirrored", "one-padded"),
            "How zero padding that LCE cannot express is handled.",
        ),
        choice_option(
            "--replication",
            ("auto", "merge", "repeat"),
            "Copies of a convolution's output: multiply again in bits, or copy floats.",
        ),
        choice_option(
            "--zero-weights",
            ("exact", "float", "plus-one"),
            "A layer of ±α with weights that are exactly 0: twice those filters, floats, or read the zeros as +α.",
        ),
        choice_option(
            "--sign-of-zero",
            ("zero", "plus-one"),
            "torch.sign of what is 0 by design (pixels, behind a ReLU): 0, in float, or +1, in bits.",
        ),
        choice_option(
            "--weights-precision",
            ("float32", "float16", "int8"),
            "Type in which the file holds the weights of float layers; binary layers stay as they are.",
        ),
        choice_option(
            "--quantize",
            ("none", "int8", "auto"),
            "int8: float layers run in 8-bit integers, in ranges that --calibrate finds; binary ones stay as they are. "
            "auto: all but those that cost more accuracy than --max-accuracy-drop.",
        ),
        click.option(
            "--calibrate",
            metavar="DATA",
            help="Images that show in which ranges numbers lie, 100 to 500; as --data, a part of the training set.",
        ),
        choice_option(
            "--calibration",
            CALIBRATIONS,
            "Ranges: those of the least error, from the lowest to the highest number, or without a few on either side.",
        ),
        click.option(
            "--keep-float",
            "keep_float",
            multiple=True,
            metavar="LAYER",
            help="A layer that --quantize leaves in float, with all in it (layer4 has layer4.0.conv); repeatable.",
        ),
        choice_option(
            "--shortcuts",
            SHORTCUTS,
            "With --quantize: how maps are kept that are read again behind a binary layer. int8 moves the least to and "
            "from DRAM; int16 moves half of float32, and hardly rounds.",
        ),
        click.option(
            "--max-accuracy-drop",
            metavar="POINTS",
            help="With --quantize auto: by how much accuracy on a part of --calibrate may drop; agreement of classes "
            "where that has no labels. Give 1,000 images or more.  [default: 0.5%]",
        ),
        click.option(
            "--min-runtime",
            metavar="NAME",
            help="The file is right on this runtime and all later ones, or refused: tflite-2.14, litert-1.4, …; by "
            "default on those that the target may have (bnncc targets).",
        ),
        click.option(
            "--input-type",
            "input_types",
            multiple=True,
            metavar="[NAME=]float32|uint8|int8",
            help="With uint8 the file takes pictures' bytes as they are decoded, with int8 128 less, and computes "
            "--mean and --std, or --pixels, itself; all inputs of 1, 3 or 4 channels, or those named.",
        ),
        choice_option("--output-type", VALUE_TYPES, "Type of outputs that are bounded, as probabilities."),
        click.option("--softmax", is_flag=True, help="The file yields probabilities."),
        click.option("--argmax", is_flag=True, help="The file yields the index of the largest logit."),
        *(
            click.option(f"--{word}", default="", help=f"For the file's metadata, which other tools show: {text}.")
            for word, text in (
                ("name", "what the network is called"),
                ("description", "what it is for"),
                ("model-version", "which version of it this is"),
                ("author", "who made it"),
                ("license", "under which license it may be used"),
            )
        ),
        click.option("--dump-dir", type=FILE, help="Write the ONNX model after each pass here."),
        click.option(
            "--verify-passes",
            is_flag=True,
            help="Run every pass's result on random inputs; name the first that changed it.",
        ),
        click.option(
            "--disable-pass",
            "disabled_passes",
            multiple=True,
            metavar="PASS",
            help="Leave a pass out, to see its share; repeat for several. -v lists their names: merge-slices is "
            "passes/merge_slices.py.",
        ),
    ),
)


@click.command("compile")
@network_options(click.argument("source", metavar="NETWORK"))
@click.option("--target", default="raspberry-pi-4", show_default=True, help="The device; `bnncc targets` lists them.")
@click.option("-o", "--output", type=FILE, required=True, help="The .tflite file to write.")
@data_options(
    "Images to verify and measure accuracy on: a .npz, a folder of class folders, a video, or file.py:callable."
)
@compile_options
@click.option("--explain", is_flag=True, help="Print what became of every binary layer of the network, and why.")
@click.option(
    "--verify/--no-verify", "verifies", default=True, help="Prove the file against the reference before writing it."
)
@click.option(
    "--inputs",
    "count",
    type=INPUT_COUNT,
    help="How many inputs to verify on: random ones, or the first of the data.  [default: 2 to 4, until a million sums "
    "of binary layers have been compared]",
)
@runtime_option
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the random inputs."
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Print every layer's verification and the time of each stage and pass."
)
@json_option
@quiet_option
def compile_command(
    network: NetworkSource,
    target: str,
    output: Path,
    data: DataOptions,
    chosen: tuple[Options, Calibration | None],
    explain: bool,
    verifies: bool,
    count: int | None,
    runtime: str,
    seed: int,
    verbose: bool,
) -> None:
    """Compile NETWORK (file.py:callable, package.module:callable or a .onnx file) and prove the result.

    Exit code 0: the file is written. 1: it disagrees with the network; nothing is written. 2: something is wrong with
    the input; nothing is written.
    """
    with without_collections():
        from bnncc import report
        from bnncc.check.report import print_figures
        from bnncc.compiler import compile_in_int8, compile_traced
        from bnncc.frontend import trace_source
        from bnncc.ir.evaluate import random_inputs
        from bnncc.options import ValueType
        from bnncc.system.files import check_writable, keep_apart
        from bnncc.targets import find_target
        from bnncc.verification import sufficient_inputs, verify_in
    keep_imports()

    console = standard_output()
    options, calibration = chosen
    runtimes = chosen_runtimes(runtime) if verifies or data.source is not None else ()
    device = find_target(target)
    check_writable(output)
    keep_apart({"-o": output}, (*network.files, *data.files, *(calibration.files if calibration else ())))
    if data.source is not None:
        data.source.check_exists()
    if calibration is not None:
        calibration.check_exists()
        source = replace(calibration.source, every=data.every)
        calibration = replace(calibration, data=source, skip_bad_images=data.skip_bad_images)
    options = replace(options, preprocessing=data.preprocessing, classes=data.classes)
    # The user's own images say what is frozen; and what is wrong with them is told before the export.  Where the file
    # shall take their bytes, they may not be what the network takes.
    takes_data = network.freeze_branches or options.input_type is ValueType.FLOAT32
    examples = partial(data.batches, count=TRACE_CHECK_INPUTS) if takes_data else ()
    with working("tracing the network"):
        traced = trace_source(network, check_inputs=examples)
    release_unused(traced.float32_bytes, keep=True)  # what the exporter imports, and the trace
    if calibration is None:
        with working("compiling"):
            compiled = compile_traced(traced, device, options)
    else:
        with progress_bars() as progress:
            compiled = compile_in_int8(
                traced,
                device,
                options,
                calibration,
                partial(progress, "calibrating"),
                partial(progress, "measuring layers"),
            )
    for warning in compiled.traced.warnings:
        warn(warning)
    if not any(layer.reason is None for layer in compiled.layers):
        warn(_without_binary_layers(compiled))
    count = count or sufficient_inputs(compiled)
    specs, wanted = compiled.traced.inputs, max(count, TRACE_CHECK_INPUTS)
    batches = data.batches(specs, wanted)
    if not batches and calibration is not None:
        batches = calibration.examples(specs, options.preprocessing, wanted)
    if batches and not (takes_data and data.source is not None):
        compiled.traced.check_against_module(batches[:TRACE_CHECK_INPUTS])
    verifications = []
    checked = None
    if verifies:
        require_memory_for(count, compiled.traced.inputs)
        inputs = (batches or [random_inputs(compiled.traced.model, seed + index) for index in range(count)])[:count]
        with progress_bars() as progress:
            verifications = verify_in(runtimes, compiled, inputs, partial(progress, "verifying"))
        zeros = verifications[0].zeros
        if zeros and options.sign_of_zero.value == "zero":
            warn(
                f"{zeros:,} signs read an exact 0, where PyTorch's sign is 0 and a bit says +1: the file computes "
                "something else there. Write torch.where(x >= 0, 1.0, -1.0) if that is what the network means"
            )
        if (at_zero := signs_at_zero(verifications[0])) is not None:
            warn(at_zero)
    problems = [f"in {found.runtime.title}: {problem}" for found in verifications for problem in found.problems]
    if data.source is not None and not problems:
        with progress_bars() as progress:
            checked = compiled.check(
                data.source, skip_bad_images=data.skip_bad_images, runtimes=runtimes, progress=progress
            )
        if not checked.complete:
            raise KeyboardInterrupt
        for warning in checked.warnings:
            warn(warning)
    reporter().document = {
        **report.compilation(compiled, verifications),
        "accuracy": None if checked is None else checked.as_json(),
        "file": None,
    }
    report.print_compilation(console, compiled, verifications)
    if checked is not None:
        print_figures(console, checked)
    if explain:
        report.print_explanation(console, compiled)
    if verbose:
        if verifications:
            report.print_layers(console, verifications[0])
        report.print_seconds(console, compiled)
    if problems and len(problems) == sum(found.zero_problems for found in verifications):
        raise InputError(
            "the network takes the sign of values that are exactly 0, of which PyTorch makes 0, and a bit is +1 or -1; "
            "nothing was written.\n"
            + "\n".join(f"  {problem}" for problem in verifications[0].problems)
            + "\nSums of ±1 are 0 now and then where nothing is added to them, as by a batch norm in its initial state."
            "\nGive the trained weights (--weights); or --sign-of-zero plus-one, which reads "
            "the zeros as +1, to measure an untrained network; or write torch.where(x >= 0, 1.0, -1.0)."
        )
    if problems and len(problems) == sum(found.vanishing_problems for found in verifications):
        raise InputError(
            "gates of the network underflow to 0, as a sigmoid below -88 does; nothing was written.\n"
            + "\n".join(f"  {problem}" for problem in verifications[0].problems)
            + "\nGive the trained weights (--weights), or data as the network knows them (--data); or take the sign in "
            "front of the gate, if that is what the network means."
        )
    if problems:
        raise VerificationError(
            "the compiled file disagrees with the network; nothing was written.\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + "\nThis is a bug in bnncc: run again with --verify-passes to see which pass made it."
        )
    compiled.save(output)
    reporter().document["file"] = output
    console.print(f"wrote {output}", markup=False)
