"""The whole way: a traced network through the passes to a .tflite file, with what became of each binary layer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from torch import nn

from bnncc._version import __version__
from bnncc.boundary import with_boundary
from bnncc.calibration import (
    FEWEST_INPUTS,
    METHODS,
    Calibration,
    Progress,
    accuracy_drop,
    channel_exponents,
    integer_plan,
    passes_over,
    ranges_of,
)
from bnncc.errors import InputError
from bnncc.frontend import TracedModel, WeightsChoice, input_specs, trace, trace_module
from bnncc.ir import ops
from bnncc.ir.evaluate import Array
from bnncc.ir.layers import binary_layers
from bnncc.ir.modes import SignOfZero
from bnncc.ir.pass_runner import PassRunner
from bnncc.ir.step import Step
from bnncc.ir.value_facts import mark_inputs
from bnncc.layer_search import find_layers
from bnncc.model import CompiledModel
from bnncc.options import FileMetadata, Options
from bnncc.passes import PIPELINE
from bnncc.passes.balance_channels import BALANCE_CHANNELS, balancing_channels
from bnncc.passes.balance_rows import balancing
from bnncc.passes.configure import configured
from bnncc.passes.decompose import Decompose, is_product
from bnncc.passes.fold_constants import FoldConstants
from bnncc.passes.form_convolutions import FormConvolutions, may_be_convolution
from bnncc.passes.give_sequences_height import GiveSequencesHeight, is_of_sequences
from bnncc.passes.give_vectors_rows import GiveVectorsRows, multiplies_vector
from bnncc.passes.legalize import OPTIONAL, REQUIRED, legalization
from bnncc.passes.lift_constants import LiftConstants
from bnncc.passes.remove_unused import RemoveUnused
from bnncc.passes.replace_cast_like import ReplaceCastLike
from bnncc.passes.split_phases import SplitPhases, is_transposed
from bnncc.public_notes import has_labels, public_metadata
from bnncc.system.memory import release_unused
from bnncc.system.names import shown
from bnncc.targets import Target, find_target
from bnncc.targets.released import NEWEST, ORDINARY, span_text
from bnncc.targets.tflite.digest import METADATA_NAME
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.integer_file import as_integers
from bnncc.targets.tflite.integers import FLOAT32, Integers
from bnncc.targets.tflite.precision import SMALLEST_ROUNDED, WeightsPrecision
from bnncc.targets.tflite.public_metadata import PUBLIC_NAME, archive
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.runtimes import MISREADS_HALF, beyond, needs, oldest

DEFAULT_TARGET = "raspberry-pi-4"


def compile(
    source: str | Path | nn.Module,
    *,
    target: str = DEFAULT_TARGET,
    weights: Path | str | None = None,
    arguments: Mapping[str, object] | None = None,
    input_shapes: Sequence[str | Sequence[int]] = (),
    input_ranges: Mapping[str, tuple[float, float]] | None = None,
    allow_partial_weights: bool = False,
    weights_key: str | None = None,
    strip_prefixes: Sequence[str] = (),
    check_inputs: Sequence[Sequence[Array]] = (),
    freeze_branches: bool = False,
    options: Options | None = None,
    calibrate: Any = None,
    calibration: str = METHODS[0],
    keep_float: Sequence[str] = (),
    max_accuracy_drop: str | float | None = None,
    shortcuts: str = FLOAT32,
) -> CompiledModel:
    """Compile a network.

    source: "path/to/file.py:callable", "package.module:callable", a .onnx file (a Path, too), or an nn.Module.
    weights: a checkpoint for the network that the callable makes (not with a Module or a .onnx file).
    arguments: keyword arguments of the callable.
    weights_key, strip_prefixes: which of the checkpoint's state_dicts, as "model.state_dict", and what its keys begin
        with and the network's do not; by default what fits best is found.
    input_shapes: one for each input, "1x3x224x224", "name=1x3x224x224", "name=1x128:int64" or a sequence of ints; NCHW,
        batch included.  `name` is a parameter of forward, or a part of one that is a dict or list: `batch.image`.
    input_ranges: by input; its random values are at least the first number and below the second.
    check_inputs: arrays on which, besides random ones, the trace is compared with PyTorch.
    freeze_branches: where forward decides in Python by its input (`if x.max() > 1`), keep for all inputs what the first
    of `check_inputs`, or a random one, leads to; `CompiledModel.traced.frozen` and the file's metadata name it.  An
    error otherwise.
    calibrate: data (as `DataSource` takes them) on which the ranges of activations are measured: the float layers then
    run in int8.  calibration: "mse", "min-max" or "percentile".  keep_float: module paths of layers that stay in float.
    max_accuracy_drop: "0.5%", or 0.5, in points: so many layers stay in float that the accuracy on a part of the data
    drops by no more; `CompiledModel.sensitivity` has the figures.  shortcuts: "int8" or "int16", in which maps that
    wait for a binary layer are kept meanwhile, with max_accuracy_drop where that allows it.
    Raises BnnccError, or one of its subclasses, with a message for the user.
    """
    device = find_target(target)
    if calibrate is None and (keep_float or max_accuracy_drop is not None):
        raise InputError(f"{'keep_float' if keep_float else 'max_accuracy_drop'} goes with calibrate")
    max_drop = None if max_accuracy_drop is None else accuracy_drop(max_accuracy_drop)
    shapes = [shape if isinstance(shape, str) else "x".join(map(str, shape)) for shape in input_shapes]
    ranges = [f"{name}={low}:{high}" for name, (low, high) in (input_ranges or {}).items()]
    if isinstance(source, nn.Module):
        if weights is not None or arguments:
            raise InputError("weights and arguments go with a callable; load them into the module instead")
        traced = trace_module(
            source,
            input_specs(source, shapes, ranges),
            check_inputs=check_inputs,
            freeze_branches=freeze_branches,
        )
    else:
        traced = trace(
            str(source),
            weights=None if weights is None else Path(weights),
            arguments=arguments or {},
            input_shapes=shapes,
            input_ranges=ranges,
            allow_partial_weights=allow_partial_weights,
            weights_choice=WeightsChoice(weights_key, tuple(strip_prefixes)),
            freeze_branches=freeze_branches,
            check_inputs=check_inputs,
        )
    options = options or Options()
    if calibrate is None:
        if options.integers is not None and not options.integers.ranges:
            raise InputError("options.integers has no ranges: they come of calibrate=")
        return compile_traced(traced, device, options)
    chosen = Calibration(calibrate, tuple(keep_float), calibration, max_drop=max_drop, shortcuts=shortcuts)
    return compile_in_int8(traced, device, options, chosen)


def compile_in_int8(
    traced: TracedModel,
    target: Target,
    options: Options,
    calibration: Calibration,
    progress: Progress | None = None,
    measuring: Progress | None = None,
) -> CompiledModel:
    """`compile_traced`, with the float layers in int8; with `calibration.max_drop` with those that keep to it.

    progress: told (how many inputs were run, how many there are); measuring: the same, of the search for layers that
    are to stay in float.  Raises InputError where the data do not fit, a layer to be kept in float is none, or no layer
    can run in int8.
    """
    asked = options
    wanted = Integers(calibration.keep_float, shortcuts=calibration.shortcuts)
    options = replace(options, integers=wanted)
    runner = PassRunner(options.dump_dir, options.compare_passes)
    floats = compile_traced(traced, target, options, runner)
    parts = None
    if calibration.max_drop is None:
        inputs = calibration.inputs(floats.traced.inputs, options.preprocessing)
    else:
        parts = calibration.parts(floats.traced.inputs, options.preprocessing, options.classes)
        inputs = parts[0]
    count = passes_over(calibration.method)
    exponents = {}
    start = time.perf_counter()
    if BALANCE_CHANNELS not in options.disabled_passes:
        exponents = channel_exponents(floats, inputs, _part(progress, 0, count + 1))
    measured = time.perf_counter() - start
    if exponents:
        options = replace(options, integers=replace(wanted, exponents=exponents))
        floats = _balanced(floats, options, runner)
    start = time.perf_counter()
    ranging = _part(progress, 1, count + 1)
    integers: Integers | None
    if parts is None:
        integers = ranges_of(floats, inputs, calibration.method, ranging)
        _warn_of_few(floats.traced, integers.inputs)
    else:
        integers, sensitivity = find_layers(floats, calibration, parts, ranging, measuring)
        floats = replace(floats, sensitivity=sensitivity)
        _warn_of_few(floats.traced, sensitivity.range_inputs, sensitivity.images)
    seconds = {**floats.seconds, "calibrate": measured + time.perf_counter() - start}
    if integers is None:
        found = compile_traced(traced, target, asked)
        found.traced.warnings[:] = floats.traced.warnings
        return replace(found, seconds={**found.seconds, "calibrate": seconds["calibrate"]}, sensitivity=sensitivity)
    options = replace(options, integers=integers)
    content = _emit(floats.graph, floats.traced, target, options)
    return replace(floats, content=content, options=options, seconds=seconds)


def _warn_of_few(traced: TracedModel, inputs: int, images: int | None = None) -> None:
    """inputs: on which ranges were measured; images: on which a drop of accuracy was."""
    if inputs < FEWEST_INPUTS:
        traced.warnings.append(
            f"--calibrate: {inputs} inputs tell little of the ranges of activations; give {FEWEST_INPUTS} or more"
            + ("" if images is None else f", and {FEWEST_INPUTS} or more to measure on")
        )
    if images is not None and images < FEWEST_INPUTS:
        traced.warnings.append(
            f"--max-accuracy-drop: on {images} images the drop tells little, as one of them is {1 / images:.1%}"
        )


def _balanced(floats: CompiledModel, options: Options, runner: PassRunner) -> CompiledModel:
    """A compiled network with its channels balanced as `options.integers` says.

    That is the last of the passes, so it runs on the graph that the others, by this runner, have left.
    """
    assert options.integers is not None
    start = time.perf_counter()
    runner.run(floats.graph, [balancing_channels(options.integers.exponents)])
    passed = time.perf_counter()
    content = _emit(floats.graph, floats.traced, floats.target, options)
    seconds = {
        **floats.seconds,
        "passes": floats.seconds["passes"] + passed - start,
        "emit": floats.seconds["emit"] + time.perf_counter() - passed,
    }
    layers = binary_layers(floats.graph.graph)
    return replace(
        floats, content=content, layers=layers, options=options, seconds=seconds, pass_seconds=runner.seconds
    )


def _part(progress: Progress | None, passed: int, passes: int) -> Progress | None:
    """What is told of the passes over the data that come behind the first `passed` of so many."""
    if progress is None:
        return None
    return lambda done, total: progress(passed * total + done, passes * total)


def compile_traced(
    traced: TracedModel, target: Target, options: Options, runner: PassRunner | None = None
) -> CompiledModel:
    """Run the passes on a copy of the traced graph, with the inputs and outputs that the options name, and emit the
    file.

    runner: by which they run, where others are to follow.
    """
    start = time.perf_counter()
    network, traced = traced, with_boundary(traced, options)
    traced = _with_products_as_layers(traced)
    model = traced.model.clone()
    ops.register(model)
    if options.sign_of_zero is SignOfZero.ZERO:
        mark_inputs(model.graph)
    _check_disabled(options)
    runner = runner or PassRunner(options.dump_dir, options.compare_passes)
    steps = configured(
        PIPELINE,
        target.cost,
        grouped_bconv=target.grouped_bconv,
        replication=options.replication,
        zero_weights=options.zero_weights,
        sign_of_zero=options.sign_of_zero,
    )
    runner.run(model, _enabled(steps, options))
    runner.run(model, _enabled(legalization(model, options.padding), options))
    if options.weights_precision is WeightsPrecision.INT8 or options.integers is not None:
        runner.run(model, _enabled([balancing(SMALLEST_ROUNDED)], options))
    if options.integers is not None and options.integers.exponents:
        runner.run(model, _enabled([balancing_channels(options.integers.exponents)], options))
    layers = binary_layers(model.graph)
    passed = time.perf_counter()
    content = _emit(model, traced, target, options)
    seconds = {**traced.seconds, "passes": passed - start, "emit": time.perf_counter() - passed}
    release_unused(traced.float32_bytes)
    return CompiledModel(content, model, traced, target, layers, options, seconds, runner.seconds, network)


def _emit(model: ir.Model, traced: TracedModel, target: Target, options: Options) -> bytes:
    """The file, whose metadata name the oldest runtime on which it is right, where that is no ordinary one.

    It takes the form that is right on `options.min_runtime` and all later ones, or on the target's own.  Raises
    InputError where there is none.
    """
    append = archive(options.classes) if has_labels(traced, options) else None

    half_convolutions = True
    span = target.runtimes if options.min_runtime is None else (options.min_runtime, NEWEST)

    def emitted(oldest_runtime: str) -> bytes:
        content = emit(
            model,
            channels_last=options.channels_last,
            precision=options.weights_precision,
            metadata=_metadata(traced, target, options, oldest_runtime),
            append=append,
            half_convolutions=half_convolutions,
        )
        if options.integers is None or not options.integers.ranges:
            return content
        file = TfliteFile(content)
        found = integer_plan(file, model.graph, options.integers)
        try:
            return as_integers(file, found, options.integers.ranges, append)
        except KeyError as error:
            raise InputError(f"the ranges of activations lack that of {error}: calibrate again") from error

    content = emitted(ORDINARY)
    file = TfliteFile(content)
    if any(need.since == MISREADS_HALF for need in beyond(needs(file), *span)):
        half_convolutions = False
        content = emitted(ORDINARY)
        file = TfliteFile(content)
    found = needs(file)
    missed = beyond(found, *span)
    if missed:
        lines = [f"  '{shown(file.operators[need.index].outputs[0].name)}' {need}" for need in missed]
        head = (
            f"{target.name} may have {span_text(span)} (--min-runtime names others), on which"
            if options.min_runtime is None
            else f"with --min-runtime {options.min_runtime}"
        )
        raise InputError("\n".join([f"{head} this network does not go:", *lines]))
    if not beyond(found, ORDINARY):
        return content
    return emitted(oldest(found))


def _with_products_as_layers(traced: TracedModel) -> TracedModel:
    """The traced network with the layers that certain products become: of Einsum and 3-D convolutions, with vectors,
    with unfolded windows, of weights that come first, transposed convolutions; and sequences as maps of height 1.

    Verification looks for each binary layer in the traced network, and does not find what only the passes make.
    """
    graph = traced.model.graph
    kinds = (is_product, multiplies_vector, may_be_convolution, is_transposed)
    steps: list[ir.passes.InPlacePass] = []
    if any(map(is_of_sequences, graph)):  # whose weights stay expressions: residue cancels before they are folded
        steps += [LiftConstants(), GiveSequencesHeight()]
    if any(is_kind(node) for node in graph for is_kind in kinds):
        steps += [LiftConstants(), ReplaceCastLike(), FoldConstants(), Decompose(is_product)]
        # Weights are there once, as the layers have them: the report says how large they were.
        steps += [GiveVectorsRows(), FormConvolutions(), SplitPhases(), RemoveUnused()]
    if not steps:
        return traced
    model = traced.model.clone()
    ops.register(model)
    for step in steps:
        step(model)
    return replace(traced, model=model)


def _check_disabled(options: Options) -> None:
    """Raises InputError for a name that is no pass, or one of a pass that no file can do without."""
    names = dict.fromkeys([*(step.name for step in PIPELINE), *OPTIONAL, "balance-rows", BALANCE_CHANNELS])
    for name in options.disabled_passes:
        if name == REQUIRED:
            raise InputError(f"--disable-pass: without '{name}', LCE would pad wrongly where it says zero padding")
        if name not in names:
            raise InputError(f"--disable-pass: there is no pass '{name}'; the passes are {', '.join(names)}")


def _enabled(steps: Sequence[Step], options: Options) -> list[Step]:
    """The steps that the options leave in."""
    return [step for step in steps if step.name not in options.disabled_passes]


def _metadata(traced: TracedModel, target: Target, options: Options, oldest_runtime: str) -> dict[str, bytes]:
    entry = FileMetadata(
        __version__, target.name, traced.weights_digest, traced.float32_bytes, options, traced.frozen, oldest_runtime
    )
    public = public_metadata(traced, options)
    return {METADATA_NAME: entry.as_bytes()} | ({} if public is None else {PUBLIC_NAME: public})
