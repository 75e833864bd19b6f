"""Prove that a float .tflite file computes what a float ONNX graph computes.

Two float programs that are both right differ by rounding, and where a sign reads a value near zero that flips it; the
flip then spreads.  So the file is cut in front of every operator that jumps (signs, comparisons, roundings):

    x ─ CONV_2D ─ a ─ SIGN ─ CONV_2D ─ y          a: computed from x; y: computed from the reference's a

Everything behind a cut reads what ONNX Runtime has there, so that nothing spreads, and every value in front of one, as
every output, may differ by rounding only.  That is a proof for the given inputs, in LCE's own interpreter, whatever
the network's own sensitivity to flips.

The converter keeps no names and may keep another order.  Which value of the graph a cut tensor holds is therefore told
by running the file freely and taking the nearest one; a wrong pair would be found out as a wrong value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.errors import VerificationError
from bnncc.inference.graph_runner import OrtRunner
from bnncc.inference.runners import FileRunner, first_runtime
from bnncc.ir.evaluate import Array
from bnncc.ir.graph import describe
from bnncc.ir.rounding import ROUNDING
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import Tensor
from bnncc.verification import CANCELLATION
from bnncc.verification.passes import JUMPS

# The operators of JUMPS as TensorFlow Lite has them.
TFLITE_JUMPS = (
    "SIGN", "ROUND", "FLOOR", "CEIL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL",
)  # fmt: skip

# So many wrong values are named in a message.
REPORTED = 3


@dataclass(frozen=True)
class Check:
    """What was compared, over all inputs: values in front of jumps, and outputs.

    error: the largest difference, relative to the largest magnitude in its channel, where everything behind a jump
    reads the reference's values.
    """

    values: int
    error: float


@dataclass(frozen=True)
class _Cut:
    """A tensor of the file that a jump reads, and the value of the graph that it holds, its channels last or not."""

    tensor: Tensor
    value: ir.Value
    channels_last: bool


def stored(array: Array, channels_last: bool | None = None) -> Array:
    """A value of the graph (NCHW) laid out as the file has it; by default as inputs and outputs are: 4-D ones with the
    channels last.
    """
    if channels_last is None:
        channels_last = array.ndim == 4
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if channels_last else array


def check(content: bytes, model: ir.Model, inputs: Sequence[Sequence[Array]]) -> Check:
    """Compare the file with the graph on each of `inputs` (one array for each graph input, NCHW).

    The file's inputs and outputs are the graph's, in order.  Raises VerificationError where they do not agree.
    """
    file = TfliteFile(content)
    cuts = _find_cuts(file, model, inputs[0])
    tensors = [cut.tensor for cut in cuts]
    reference = OrtRunner(model, [cut.value for cut in cuts])
    runner = load(file.variant([*file.inputs, *tensors], file.outputs, split=tensors))
    names = [f"output '{value.name}'" for value in model.graph.outputs] + [_readers(cut.value) for cut in cuts]
    layouts = [None] * len(model.graph.outputs) + [cut.channels_last for cut in cuts]
    compared, largest = 0, 0.0
    for arrays in inputs:
        expected = [stored(*pair) for pair in zip(reference.run(arrays), layouts, strict=True)]
        given = expected[len(model.graph.outputs) :]
        found = runner.run([*map(stored, arrays), *given])
        errors = list(map(_channel_error, found, expected))
        wrong = [f"{name} is off by {error:.2g}" for name, error in zip(names, errors, strict=True) if error > ROUNDING]
        if wrong:
            raise VerificationError("; ".join(wrong[:REPORTED]) + " of its channel's largest magnitude")
        compared += sum(array.size for array in expected)
        largest = max(largest, *errors)
    return Check(compared, largest)


def load(content: bytes) -> FileRunner:
    """The file in the first runtime that is here.  Raises VerificationError where that does not take it."""
    runtime = first_runtime()
    try:
        return runtime.load(content)
    except RuntimeError as error:
        raise VerificationError(f"{runtime.title} does not take the file: {str(error).strip()}") from error


def _find_cuts(file: TfliteFile, model: ir.Model, arrays: Sequence[Array]) -> list[_Cut]:
    """Every computed float that a jump of the file reads, with the nearest of those that the graph's jumps read."""
    tensors = _jump_operands(file)
    if not tensors:
        return []
    found = load(file.variant(file.inputs, tensors)).run([stored(array) for array in arrays])
    values = _jump_values(model)
    references = OrtRunner(model, values).run(arrays)[len(model.graph.outputs) :]
    candidates = [
        (stored(array, channels_last), value, channels_last)
        for value, array in zip(values, references, strict=True)
        for channels_last in ((True, False) if array.ndim > 2 else (False,))
    ]
    return [_nearest(*pair, candidates) for pair in zip(tensors, found, strict=True)]


def _nearest(tensor: Tensor, array: Array, candidates: Sequence[tuple[Array, ir.Value, bool]]) -> _Cut:
    fitting = [candidate for candidate in candidates if candidate[0].shape == array.shape]
    if not fitting:
        raise VerificationError(f"it has a sign or comparison of a {array.shape} array, and the network has none")
    _, value, channels_last = min(fitting, key=lambda candidate: float(np.mean(np.abs(candidate[0] - array))))
    return _Cut(tensor, value, channels_last)


def _jump_operands(file: TfliteFile) -> list[Tensor]:
    read = [tensor for operator in file.operators if operator.name in TFLITE_JUMPS for tensor in operator.inputs]
    return [
        tensor
        for tensor in dict.fromkeys(read)
        if tensor is not None and tensor.dtype == "float32" and file.data(tensor) is None and tensor not in file.inputs
    ]


def _jump_values(model: ir.Model) -> list[ir.Value]:
    read = [value for node in model.graph if node.op_type in JUMPS for value in node.inputs]
    return [
        value
        for value in dict.fromkeys(read)
        if value is not None and value.producer() is not None and value.dtype == ir.DataType.FLOAT
    ]


def _readers(value: ir.Value) -> str:
    readers = [describe(node) for node, _ in value.uses() if node.op_type in JUMPS]
    return f"what {readers[0]} reads"


def _channel_error(array: Array, reference: Array) -> float:
    """The largest difference, relative to the largest magnitude in its channel, the last axis.

    What cancellation leaves in a channel of small values is allowed for.
    """
    if array.shape != reference.shape:
        return float("inf")
    magnitude = np.abs(reference.astype(np.float64))
    scale = magnitude.max(axis=tuple(range(reference.ndim - 1)), keepdims=True, initial=0.0)
    scale = scale + CANCELLATION / ROUNDING * magnitude.max(initial=0.0)
    difference = np.abs(array.astype(np.float64) - reference)
    error = float(np.max(difference / np.where(scale == 0, np.finfo(np.float64).tiny, scale), initial=0.0))
    return float("inf") if np.isnan(error) else error
