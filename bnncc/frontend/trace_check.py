"""Compare a traced graph with the network that it was traced from.

Exporters produce wrong graphs without an error: an assignment to `.data`, a branch that was taken once, a constant that
was a variable.  So the graph runs in ONNX Runtime, graph optimisations off, against the network itself in eager mode.

If all outputs agree within rounding, done.  A binary network's need not: where a sum is almost zero its sign depends on
the rounding, and one flipped sign moves every output.  Then the graph is cut at every operation that can be matched
with one of the eager run, and each segment computes from the *eager run's* values:

    Before:  x ─ Conv ─ Sign ─ Conv ─ y
    Cut:     x ─ Conv ─ c      c' ─ Sign ─ s      s' ─ Conv ─ y         (c', s' are fed from the eager run)

so that errors do not accumulate.  A float cut may be off by rounding; a sign may differ only where its operand is
within rounding of zero (`flips.py`).  Where that is not enough, it is measured what roundings make of these values
(`sensitivity.py`).  Anything else is a wrong graph, and the first cut that shows it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from bnncc.errors import TraceMismatchError
from bnncc.frontend.alignment import Alignment, align
from bnncc.frontend.constant_reductions import fold_reductions
from bnncc.frontend.constant_signs import pin_constant_signs
from bnncc.frontend.flips import differing, explained
from bnncc.frontend.recording import JUMPING, Operation, Recording
from bnncc.frontend.sensitivity import moved_by_rounding
from bnncc.ir.choices import result_of
from bnncc.ir.evaluate import Array, run, skeleton, weights_of
from bnncc.ir.graph import describe
from bnncc.ir.rounding import ROUNDING, relative_error

# Suffix of the graph inputs that carry the eager run's values into the graph.
_REFERENCE = "\0reference"


@dataclass
class _Difference:
    """A value of the cut graph that rounding does not explain: which, and how it differs."""

    what: str
    text: str


@dataclass
class _Verdict:
    differences: list[_Difference]
    flips: int = 0
    signs: int = 0


def check_trace(
    model: ir.Model,
    inputs: Sequence[Sequence[Array]],
    run_module: Callable[[Sequence[Array]], list[Array]],
    record: Callable[[Sequence[Array]], Recording],
    first: Recording,
) -> list[str]:
    """Check `model` against eager runs on each of `inputs`; pin constant signs, and fold reductions of weights.

    Args:
        model: the traced graph, with complete shapes; `pin_constant_signs` and `fold_reductions` may change it.
        inputs: arrays for the graph inputs, in order; at least one set.
        run_module: runs the network: arrays for its inputs in, its outputs in the order of the graph's out.
        record: runs the network and records it.
        first: `record(inputs[0])`.

    Returns:
        Warnings.

    Raises:
        TraceMismatchError: the graph computes something else; names the first operation that differs.
    """
    warnings = []
    alignment = align(first.operations, model.graph)
    pinned = pin_constant_signs(model, alignment.pairs)
    if pinned:
        warnings.append(
            f"{sum(pinned.values())} signs of weights, in {len(pinned)} layers, depend on rounding; PyTorch's are kept"
        )
    fold_reductions(model)
    names = [value.name or "" for value in model.graph.inputs]
    weights, whole = weights_of(model), skeleton(model)
    for index, arrays in enumerate(inputs):
        feeds = {**weights, **dict(zip(names, arrays, strict=True))}
        references = list(first.outputs.values()) if index == 0 else run_module(arrays)
        warnings += _not_finite(index, references, list(first.outputs))
        results = _run(whole, feeds, first)
        if all(relative_error(*pair) <= ROUNDING for pair in zip(results, references, strict=True)):
            continue
        recording = first if index == 0 else record(arrays)
        # Runs of one network have the same operations; the graph has the pinned ones no longer.
        gone = {index for index, operation in enumerate(first.operations) if id(operation) in pinned}
        kept = [operation for index, operation in enumerate(recording.operations) if index not in gone]
        alignment = align(kept, model.graph)
        verdict = _explain(model, feeds, recording, alignment)
        if verdict.differences:
            is_random = any(relative_error(*pair) > 0 for pair in zip(run_module(arrays), references, strict=True))
            raise TraceMismatchError(_message(recording, is_random, alignment, verdict.differences[0]))
        if not verdict.flips:
            continue  # floats alone, by rounding
        warnings.append(
            f"check input {index}: {verdict.flips:,} of {verdict.signs:,} signs flipped by rounding between PyTorch "
            "and ONNX Runtime; every layer agrees when it computes from PyTorch's values"
        )
    return warnings


def _not_finite(index: int, outputs: Sequence[Array], names: Sequence[str]) -> list[str]:
    warnings = []
    for name, array in zip(names, outputs, strict=True):
        bad = int(np.count_nonzero(~np.isfinite(array))) if np.issubdtype(array.dtype, np.floating) else 0
        if bad:
            warnings.append(
                f"check input {index}: {bad:,} of the {array.size:,} values of output {name!r} are NaN or infinite, in "
                "PyTorch itself, of which nothing can be proved: give inputs of the range that the network is made for"
            )
    return warnings


def _run(proto: onnx.ModelProto, feeds: Mapping[str, Array], reference: Recording) -> list[Array]:
    try:
        results = run(proto, feeds)
    except Exception as error:
        raise TraceMismatchError(f"ONNX Runtime cannot run the exported graph: {error}") from error
    if list(results) != list(reference.outputs):
        raise TraceMismatchError(
            f"the graph's outputs are {', '.join(results)}, PyTorch's are {', '.join(reference.outputs)}"
        )
    return list(results.values())


def _explain(model: ir.Model, feeds: Mapping[str, Array], recording: Recording, alignment: Alignment) -> _Verdict:
    """Compare segment by segment.  Either set of cuts may clear the graph.

    The float cuts find the place of an error, but an exporter that fuses a convolution with what follows makes a
    correct graph fail at them; the jumps alone are enough to keep rounding from growing.
    """
    verdict = _compare_segments(model, feeds, recording, alignment.pairs)
    if not verdict.differences:
        return verdict
    jumps = [(operation, node) for operation, node in alignment.pairs if operation.kind in JUMPING]
    without_float_cuts = _compare_segments(model, feeds, recording, jumps)
    return verdict if without_float_cuts.differences else without_float_cuts


def _compare_segments(
    model: ir.Model, feeds: Mapping[str, Array], recording: Recording, pairs: Sequence[tuple[Operation, ir.Node]]
) -> _Verdict:
    cuts = {result_of(node).name or "": operation for operation, node in pairs}
    proto = _cut(model, cuts)
    fed = {**feeds, **{name + _REFERENCE: cuts[name].output for name in cuts}}
    results = run(proto, fed)
    verdict = _judge(model, results, recording, pairs, {})
    if not verdict.differences:
        return verdict
    # Usual roundings do not explain it.  What roundings make of these very values may.
    known = {value.name for node in model.graph for value in node.outputs}
    read = {node.inputs[0].name for operation, node in pairs if operation.kind in JUMPING and node.inputs[0]}
    names = {*results, *(name for name in read if name in known and name not in cuts)}
    allowed = moved_by_rounding(model, proto, fed, sorted(name for name in names if name))
    return _judge(model, results, recording, pairs, allowed)


def _judge(
    model: ir.Model,
    results: Mapping[str, Array],
    recording: Recording,
    pairs: Sequence[tuple[Operation, ir.Node]],
    allowed: Mapping[str, float],
) -> _Verdict:
    """allowed: for a value's name what roundings may change of it, where that may be more than usual."""
    verdict = _Verdict([])
    cuts = {result_of(node).name for _, node in pairs}
    for operation, node in pairs:
        name, operand = result_of(node).name or "", node.inputs[0]
        value = results[name]
        text = None
        if operation.kind in JUMPING:
            flipped = differing(value, operation.output)
            flips = int(np.count_nonzero(flipped))
            near = allowed.get(operand.name or "", 0.0) if operand is not None else 0.0
            unexplained = flips - int(np.count_nonzero(explained(operation, value, near))) if flips else 0
            verdict.flips += flips
            verdict.signs += value.size
            if unexplained:
                text = f"{unexplained:,} of {value.size:,} values differ, and not by rounding"
        else:
            text = _unexplained(value, operation.output, allowed.get(name, 0.0))
        if text is not None:
            verdict.differences.append(_Difference(describe(node), text + _nans(operation.output)))
    for output, (name, reference) in zip(model.graph.outputs, recording.outputs.items(), strict=True):
        if name in cuts:
            continue
        text = _unexplained(results[name], reference, allowed.get(name, 0.0))
        if text is not None:
            producer = output.producer()
            what = f"output {name!r}" + (f", {describe(producer)}" if producer is not None else "")
            verdict.differences.append(_Difference(what, text))
    return verdict


def _unexplained(value: Array, reference: Array, allowed: float) -> str | None:
    """How a float value differs, if by more than roundings; allowed: what these may change, in absolute terms."""
    error = relative_error(value, reference)
    if error <= ROUNDING:
        return None
    if value.shape != reference.shape:
        return f"its shape is {list(value.shape)}, PyTorch's is {list(reference.shape)}"
    largest = float(np.max(np.abs(reference[np.isfinite(reference)]), initial=0.0))
    if error * largest <= allowed:
        return None
    explains = max(ROUNDING, allowed / largest) if largest else ROUNDING
    return f"it is off by {error:.2g} of its largest magnitude; rounding explains {explains:.2g}"


def _nans(reference: Array) -> str:
    count = int(np.count_nonzero(np.isnan(reference))) if np.issubdtype(reference.dtype, np.floating) else 0
    return f" ({count:,} of PyTorch's own are NaN)" if count else ""


def _cut(model: ir.Model, cuts: Mapping[str, Operation]) -> onnx.ModelProto:
    """The graph with every value in `cuts` as an output, and its consumers reading the eager run's value instead."""
    proto = skeleton(model)
    for name, operation in cuts.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(operation.dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name + _REFERENCE, element, operation.shape))
        if all(output.name != name for output in model.graph.outputs):
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in cuts:
                node.input[index] = name + _REFERENCE
    return proto


def _message(recording: Recording, is_random: bool, alignment: Alignment, difference: _Difference) -> str:
    lines = ["the exported graph does not compute what the network computes."]
    lines.append(f"  The first layer that differs: {difference.what}: {difference.text}.")
    lost = [operation for operation in alignment.only_in_pytorch if operation.kind in JUMPING]
    if lost:
        lines.append(f"  PyTorch runs {len(lost)} operations that the graph has lost:")
        lines += [f"    {operation.kind} at {operation.source or 'an unknown line'}" for operation in lost[:5]]
    if is_random:
        lines.append(
            "  PyTorch's own outputs differ from run to run: forward is random. Make it deterministic in eval mode."
        )
    elif recording.data_assignments:
        lines.append("  The network assigns to .data in forward, which exporters lose:")
        lines += [f"    {location}" for location in recording.data_assignments[:5]]
        lines.append("  Assign the tensor instead: `x = x.sign()`, or `weight = self.weight.sign()` and use `weight`.")
    else:
        lines.append(
            "  Look there for what an exporter reads only once: Python values that depend on tensors, attributes or "
            "globals that change in forward, in-place operations on views. Write them as tensor operations."
        )
    return "\n".join(lines)
