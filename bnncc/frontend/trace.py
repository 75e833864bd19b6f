"""From what the user names to a checked ONNX graph."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from torch import nn

from bnncc.errors import BnnccError, ExportError, FrozenValueError, InputError, TraceMismatchError
from bnncc.frontend.boolean_choices import express_boolean_choices
from bnncc.frontend.channels_first import to_channels_first
from bnncc.frontend.checkpoint import WeightsChoice, digest, state_digest
from bnncc.frontend.constant_branches import inline_constant_branches
from bnncc.frontend.constant_reductions import fold_reductions
from bnncc.frontend.dataflow import Flow
from bnncc.frontend.export import (
    EXPORTERS,
    TORCHSCRIPT,
    NoOnnxFormError,
    describe_error,
    export,
    has_torchscript,
    silence,
)
from bnncc.frontend.first_run import first_run
from bnncc.frontend.frozen_values import FrozenValue, find_frozen_values, refusal
from bnncc.frontend.integer_products import compute_products_in_floats
from bnncc.frontend.network import (
    Network,
    NetworkSource,
    as_array,
    load_network,
    shapes_by_name,
    values_explained,
    with_ranges,
)
from bnncc.frontend.normalize import normalize_exported, normalize_file
from bnncc.frontend.onnx_file import OnnxFile, load_onnx, set_input_shapes, standardize
from bnncc.frontend.onnx_run import check_against_file, refuse_empty_values, refuse_large_values
from bnncc.frontend.parameter_values import check_parameter_values
from bnncc.frontend.plain_module import plain_module
from bnncc.frontend.repeatable import check_repeatable
from bnncc.frontend.sequences import expand_sequences
from bnncc.frontend.shapes import complete_shapes, correct_shapes
from bnncc.frontend.shared_weights import share_weights
from bnncc.frontend.trace_check import check_trace
from bnncc.frontend.written_products import express_products
from bnncc.ir.evaluate import RANGE_KEY, Array
from bnncc.ir.graph import shape_of
from bnncc.ir.input_spec import InputSpec, shape_text
from bnncc.system.memory import release_unused

# The trace check runs on so many random inputs, drawn from a normal distribution with this seed and those behind it.
_RANDOM_INPUTS = 2
_SEED = 0

# Sets of arrays, or what yields them for the inputs.
CheckInputs = Sequence[Sequence[Array]] | Callable[[Sequence[InputSpec]], Sequence[Sequence[Array]]]

_NO_ARGUMENTS: Mapping[str, object] = MappingProxyType({})


@dataclass
class TracedModel:
    """A network as a checked ONNX graph.

    Attributes:
        model: opset 18 or newer; every value of the graph has a static shape and type, every value and node a name of
            its own; no local functions; node metadata as `source.py` describes.
        inputs: the graph inputs, in order.
        run_module: the PyTorch network itself on float32 arrays in NCHW, one for each input; all its tensor outputs in
            the order of the graph outputs.  None for a .onnx file.
        exporter: "torch.export", "TorchScript" or "ONNX file".
        weights_digest: sha256 over the names, dtypes, shapes and bytes of the state_dict (of a file's initializers).
        seconds: of "load", "export" and "check".
        warnings: what the user should know, one sentence or two each.
        check_against_module: compare the graph with the network on further inputs, as before; returns warnings, raises
            TraceMismatchError.  Does nothing for a .onnx file.
        source: what was traced; None for a module that the caller had built.
        frozen: values that forward reads from its input and that the graph keeps, a line each; with `freeze_branches`
            only.  `run_module` keeps them, too.
        run_as_written: `run_module` without anything frozen.
        forget_copy: gives back the memory of the network's copy that `run_module` keeps from call to call.
    """

    model: ir.Model
    inputs: list[InputSpec]
    run_module: Callable[[Sequence[Array]], list[Array]] | None
    exporter: str
    weights_digest: str
    seconds: dict[str, float]
    warnings: list[str]
    check_against_module: Callable[[Sequence[Sequence[Array]]], list[str]]
    source: NetworkSource | None = None
    frozen: tuple[str, ...] = ()
    run_as_written: Callable[[Sequence[Array]], list[Array]] | None = None
    forget_copy: Callable[[], None] = lambda: None

    @property
    def float32_bytes(self) -> int:
        """The size of the network's parameters in float32: what the graph holds before any pass.

        TorchScript's exporter makes Constant nodes of parameters whose `.data` forward assigns.
        """
        floats = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
        graph = self.model.graph
        tensors = [value.const_value for value in graph.initializers.values()]
        if self.exporter == TORCHSCRIPT:
            nodes = (node for node in graph if node.op_type == "Constant" and "value" in node.attributes)
            tensors += [tensor for node in nodes if (tensor := node.attributes["value"].as_tensor()).shape.rank()]
        return sum(tensor.size * 4 for tensor in tensors if tensor is not None and tensor.dtype in floats)


def trace(
    source: str,
    *,
    weights: Path | None = None,
    arguments: Mapping[str, object] = _NO_ARGUMENTS,
    input_shapes: Sequence[str] = (),
    input_ranges: Sequence[str] = (),
    allow_partial_weights: bool = False,
    weights_choice: WeightsChoice | None = None,
    freeze_branches: bool = False,
    check_inputs: CheckInputs = (),
) -> TracedModel:
    """`trace_source`, of a network whose `NetworkSource` has these attributes."""
    choice = weights_choice or WeightsChoice()
    ranges = tuple(input_ranges)
    named = NetworkSource(
        source, weights, arguments, tuple(input_shapes), ranges, allow_partial_weights, choice, freeze_branches
    )
    return trace_source(named, check_inputs=check_inputs)


def trace_source(source: NetworkSource, *, check_inputs: CheckInputs = ()) -> TracedModel:
    """Trace what the command line names.

    Args:
        check_inputs: sets of arrays (float32, NCHW, one for each input) that the trace is checked on as well, or what
            yields them for the inputs.  With `source.freeze_branches` the first of them says what is frozen.

    Raises:
        FrozenValueError: forward decides by its input in Python, is random, or remembers.
        InputError: the source, its arguments or shapes cannot be used.
        WeightsError: the checkpoint cannot.
        ExportError: PyTorch cannot export the network.
        TraceMismatchError: it exports to a graph that computes something else.
    """
    started = time.perf_counter()
    if source.is_onnx_file:
        if source.weights is not None or source.arguments:
            raise InputError(f"{source.source} has its weights inside and takes no arguments")
        traced = _trace_file(source, started)
    else:
        network, warnings = load_network(source)
        traced = _trace(network, check_inputs, warnings, started, source.freeze_branches)
        share_weights(traced.model, network.module)  # which nobody else has: a caller's own may change later
    traced.source = source
    return traced


def trace_module(
    module: nn.Module,
    inputs: Sequence[InputSpec],
    *,
    check_inputs: CheckInputs = (),
    freeze_branches: bool = False,
) -> TracedModel:
    """Trace an nn.Module that the caller has built.  It is copied, never changed.

    Args:
        inputs: passed by name where forward has parameters of all these names, else by position.
        check_inputs, freeze_branches: as for `trace_source` and `NetworkSource`.

    Raises:
        InputError, ExportError, FrozenValueError, TraceMismatchError: as for `trace_source`.
    """
    started = time.perf_counter()
    plain, warnings = plain_module(module)
    return _trace(Network(plain, list(inputs)), check_inputs, warnings, started, freeze_branches)


_WITHOUT_PYTHON_VALUES = "without Python values that depend on tensors,"


def _trace(
    network: Network, check_inputs: CheckInputs, warnings: list[str], started: float, freeze_branches: bool
) -> TracedModel:
    weights_digest = state_digest(network.module)
    seconds = {"load": time.perf_counter() - started, "export": 0.0, "check": 0.0}
    started = time.perf_counter()
    first, found = first_run(network, _SEED)
    warnings += found
    inputs = network.inputs
    given = check_inputs(inputs) if callable(check_inputs) else check_inputs
    check_sets = _check_sets(inputs, given, given_first=freeze_branches)
    if freeze_branches and given:
        with values_explained():
            first = network.record(check_sets[0])
    # Each run had a copy of the network, which refers to itself.
    size = sum(tensor.nbytes for tensor in network.module.parameters())
    release_unused(size)
    found, flow, second = _check_repeatable(network, check_sets)
    release_unused(size)
    if second is not None:
        # A network takes a second to run where it computes its weights: it does so once for an input.
        outputs = list(first.outputs.values()), list(map(as_array, second.values.values()))
        network.known[:] = zip(check_sets, outputs, strict=False)
    warnings += found
    seconds["check"] += time.perf_counter() - started
    failures: list[BnnccError] = []
    exporters: Sequence[str] = (TORCHSCRIPT,) if has_torchscript(network.module) else tuple(EXPORTERS)
    # torch.export fails where forward reads a number, but it lets it have a text, and one without any numbers.
    if any(site.kind == "text" for site in flow.readings) and _frozen_values(network, check_sets[0], freeze_branches):
        exporters = (TORCHSCRIPT,)
    for exporter in exporters:
        try:
            started = time.perf_counter()
            if exporter == TORCHSCRIPT:
                network.frozen = _frozen_values(network, check_sets[0], freeze_branches)
                warnings += [f"frozen for all inputs as the traced one has it: {one}" for one in network.frozen]
            with network.code.active():
                tensors, names = network.tensors(check_sets[0]), [spec.name for spec in inputs]
                model = export(exporter, network.module, tensors, names, flow.numbers)
            _finish(model, network, list(first.outputs))
            seconds["export"] += time.perf_counter() - started
            started = time.perf_counter()
            found = check_trace(model, check_sets, network.run, network.record, first)
            seconds["check"] += time.perf_counter() - started
        except (ExportError, TraceMismatchError) as error:
            failures.append(error)
            continue
        warnings += [f"the {exporter} exporter was used: {failure}" for failure in failures]
        return TracedModel(
            model,
            inputs,
            network.run,
            exporter,
            weights_digest,
            seconds,
            warnings + found,
            partial(_check, model, network),
            frozen=tuple(map(str, network.frozen)),
            run_as_written=network.as_written().run,
            forget_copy=network.forget_copy,
        )
    mismatches = [failure for failure in failures if isinstance(failure, TraceMismatchError)]
    if mismatches:
        raise mismatches[0]
    unknown = any(isinstance(failure, NoOnnxFormError) for failure in failures)
    advice = "by other operators, or compute it behind the network," if unknown else _WITHOUT_PYTHON_VALUES
    raise ExportError(
        "PyTorch cannot export the network:\n  "
        + "\n  ".join(map(str, failures))
        + f"\nRewrite that line {advice} or export to ONNX by other means and compile the .onnx file."
    )


def _check(model: ir.Model, network: Network, inputs: Sequence[Sequence[Array]]) -> list[str]:
    with values_explained():
        first = network.record(inputs[0])
    return check_trace(model, inputs, network.run, network.record, first)


def _check_repeatable(network: Network, check_sets: Sequence[Sequence[Array]]) -> tuple[list[str], Flow, Flow | None]:
    with network.code.active(), silence():
        return check_repeatable(network.wrapped, [network.tensors(arrays) for arrays in check_sets[:2]])


def _frozen_values(network: Network, arrays: Sequence[Array], allowed: bool) -> tuple[FrozenValue, ...]:
    """What TorchScript's tracer freezes on this input; raises FrozenValueError where it may not."""
    with network.code.active(), silence():
        frozen = find_frozen_values(network.wrapped, network.tensors(arrays))
    sizes = [one for one in frozen if one.is_size]
    if sizes or (frozen and not allowed):
        raise FrozenValueError(refusal(sizes or frozen))
    return tuple(frozen)


def _finish(model: ir.Model, network: Network, outputs: Sequence[str]) -> None:
    """Names, metadata and shapes."""
    del model.graph.outputs[len(outputs) :]  # Buffers that forward changes come behind the network's own outputs.
    names = [value.name for value in model.graph.inputs if not value.is_initializer()]
    wanted = [spec.name for spec in network.inputs]
    if names != wanted:
        raise ExportError(f"the exported graph's inputs are {', '.join(map(str, names))}, not {', '.join(wanted)}")
    normalize_exported(model, {name for name, _ in network.module.named_modules()}, outputs)
    _complete(model)
    check_parameter_values(model, {name for name, _ in network.module.named_parameters(remove_duplicate=False)})
    _note_ranges(model, network.inputs)


def _note_ranges(model: ir.Model, inputs: Sequence[InputSpec]) -> None:
    """Tell those who run the graph on random inputs."""
    for value, spec in zip(model.graph.inputs, inputs, strict=True):
        if spec.range is not None:
            value.metadata_props[RANGE_KEY] = json.dumps(spec.range)


def _complete(model: ir.Model) -> None:
    """Shapes and types, and what can be written plainly once they are known."""
    expand_sequences(model)
    express_boolean_choices(model)
    complete_shapes(model)
    express_products(model)
    compute_products_in_floats(model)


def _trace_file(source: NetworkSource, started: float) -> TracedModel:
    path = Path(source.source)
    file = load_onnx(path)
    try:
        model, notes = _read_file(file, path, source)
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    except Exception as error:  # What check_structure does not know of: the libraries' own words, without a traceback.
        raise InputError(f"{path} cannot be read as an ONNX model: {describe_error(error)}") from error
    inputs = with_ranges([_spec_of(value) for value in model.graph.inputs], source.ranges, f"{path}")
    _note_ranges(model, inputs)
    initializers = {name: value.const_value for name, value in model.graph.initializers.items()}
    weights_digest = digest({name: tensor.numpy() for name, tensor in initializers.items() if tensor is not None})
    seconds = {"load": time.perf_counter() - started, "export": 0.0, "check": 0.0}
    return TracedModel(model, inputs, None, "ONNX file", weights_digest, seconds, notes, lambda inputs: [])


def _read_file(file: OnnxFile, path: Path, source: NetworkSource) -> tuple[ir.Model, list[str]]:
    """The graph of a file as `TracedModel.model`, and what the user should know.  Raises InputError."""
    model = file.model
    normalize_file(model)
    standardize(file, path)
    names = [value.name or "" for value in model.graph.inputs]
    set_input_shapes(model, shapes_by_name(names, source.shapes, f"{path}"))
    inline_constant_branches(model)
    normalize_file(model)
    file.notes += [f"{path}: {note}" for note in correct_shapes(model)]
    _complete(model)
    refuse_empty_values(model, path)
    refuse_large_values(model, path)
    check_parameter_values(model)
    model, moved = to_channels_first(model)
    check_against_file(model, file, moved.inputs, moved.outputs, path)
    fold_reductions(model)
    notes = list(file.notes)
    for name in moved.inputs:
        notes.append(
            f"{path}: its input {name!r} is NHWC there; here it is NCHW, as images are given to bnncc, and in the "
            ".tflite file NHWC again"
        )
    return model, notes


def _spec_of(value: ir.Value) -> InputSpec:
    assert value.dtype is not None
    return InputSpec(value.name or "", shape_of(value) or (), value.dtype.numpy().name)


def _check_sets(inputs: Sequence[InputSpec], given: Sequence[Sequence[Array]], given_first: bool) -> list[list[Array]]:
    """Random inputs and those given; the first of all is what is traced.  InputError where these do not fit."""
    # As `random_inputs` draws them for the verification, so that PyTorch need not run on others.
    generators = [np.random.default_rng(_SEED + index) for index in range(_RANDOM_INPUTS)]
    random = [[spec.random(generator) for spec in inputs] for generator in generators]
    for index, arrays in enumerate(given):
        shapes = [np.shape(array) for array in arrays]
        if shapes != [spec.shape for spec in inputs]:
            raise InputError(
                f"check input {index} has the shapes {', '.join(map(shape_text, shapes))}; the network takes "
                + ", ".join(spec.text for spec in inputs)
            )
    own = [[spec.convert(array) for spec, array in zip(inputs, arrays, strict=True)] for arrays in given]
    return own + random if given_first else random + own
