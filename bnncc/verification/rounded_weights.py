"""Is a file another one with rounded weights (`--weights-precision`), and nothing else?

Both are walked operator by operator.  Names, shapes, options and every constant must be equal to the bit, those of the
binary layers among them; a weight that is stored as float16 or int8 must be the other file's, rounded as
`bnncc.targets.tflite.precision` says.  So the rounded file is proven as soon as the other one is, but for what its
kernels do at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.precision import LARGEST_INT8, along
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

# A scale and a quotient are rounded to float32 once each: what that may add to half a step, relative to it.
SCALE_ROUNDING = 1e-4
# Options that only say how a rounded file's kernels treat their inputs.
HYBRID_OPTIONS = {"asymmetricQuantizeInputs"}


@dataclass(frozen=True)
class RoundedOperator:
    """A float operator whose weights are rounded: in the file, in the float32 file, and what its weights stand for.

    dtype: "float16" or "int8".  weight: float32, as in the file; axis: that of the output channels (int8 only).
    """

    operator: Operator
    twin: Operator
    dtype: str
    weight: Array
    axis: int

    def input_error(self, x: Array) -> Array:
        """How far each output channel may be off because an int8 kernel rounds its input `x`: σ·Σ|ŵ_o|."""
        step = (max(float(x.max()), 0.0) - min(float(x.min()), 0.0)) / np.iinfo(np.uint8).max
        others = tuple(axis for axis in range(self.weight.ndim) if axis != self.axis)
        sums: Array = np.abs(self.weight.astype(np.float64)).sum(axis=others)
        return step * sums if self.dtype == "int8" else np.zeros_like(sums)


@dataclass
class Comparison:
    """Outcome of `compare`.

    twins: for each operator of the file (by index) that is no DEQUANTIZE of a constant, the float32 file's.
    tensors: the float32 file's tensor for each of the file's, by index.
    integers: operators that compute in int8 what the float32 file computes in floats, and those between the two.
    problems: (the operator, what differs).  structural: the files do not go together at all.
    """

    twins: dict[int, Operator] = field(default_factory=dict)
    tensors: dict[int, Tensor] = field(default_factory=dict)
    rounded: list[RoundedOperator] = field(default_factory=list)
    integers: list[Operator] = field(default_factory=list)
    problems: list[tuple[Operator, str]] = field(default_factory=list)
    structural: str | None = None


def compare(file: TfliteFile, full: TfliteFile) -> Comparison:
    """Compare `file` with `full`, the same network in float32."""
    result = Comparison()
    stored = {
        operator.outputs[0].index: operator.inputs[0]
        for operator in file.operators
        if operator.name == "DEQUANTIZE"
        and operator.inputs[0] is not None
        and file.data(operator.inputs[0]) is not None
    }
    operators = [operator for operator in file.operators if operator.outputs[0].index not in stored]
    described = [
        [(operator.name, _shapes(operator.outputs)) for operator in ops] for ops in (operators, full.operators)
    ]
    if described[0] != described[1] or _shapes(file.inputs) != _shapes(full.inputs):
        result.structural = "its operators are not those of the float32 file"
        return result
    result.tensors = {a.index: b for a, b in zip(file.inputs, full.inputs, strict=True)}
    for operator, twin in zip(operators, full.operators, strict=True):
        result.twins[operator.index] = twin
        for problem in _differences(file, operator, full, twin, stored, result):
            result.problems.append((operator, problem))
        result.tensors.update((a.index, b) for a, b in zip(operator.outputs, twin.outputs, strict=True))
    if len(file.outputs) != len(full.outputs) or not all(
        _is_same(file, tensor, full, other, result) for tensor, other in zip(file.outputs, full.outputs, strict=True)
    ):
        result.structural = "its outputs are not those of the float32 file"
    return result


def _is_same(file: TfliteFile, tensor: Tensor, full: TfliteFile, other: Tensor, result: Comparison) -> bool:
    """True where an output of the file is that of the float32 file; of a constant, by its bytes."""
    data, expected = file.data(tensor), full.data(other)
    if data is None or expected is None:
        return data is expected and result.tensors.get(tensor.index) == other
    result.tensors[tensor.index] = other
    return data.dtype == expected.dtype and data.shape == expected.shape and data.tobytes() == expected.tobytes()


def _differences(
    file: TfliteFile,
    operator: Operator,
    full: TfliteFile,
    twin: Operator,
    stored: Mapping[int, Tensor | None],
    result: Comparison,
) -> Iterator[str]:
    """What differs between an operator and its float32 twin; rounded weights are added to `result`."""
    yield from differing_options(file, operator, full, twin)
    pairs, agree = paired_inputs(operator, twin)
    if not agree:
        yield "its inputs differ"
    for index, tensor, other in pairs:
        source = stored.get(tensor.index) or tensor
        data, expected = file.data(source), full.data(other)
        if data is None or expected is None:
            if expected is not data or result.tensors.get(tensor.index) != other:
                yield "its inputs differ"
        elif data.dtype == expected.dtype:
            if source.quantization != other.quantization or data.tobytes() != expected.tobytes():
                yield f"its constant {index} is not that of the float32 file"
        elif data.shape != expected.shape or data.dtype.name not in _ROUNDINGS:
            yield f"its constant {index} has another type or shape"
        else:
            weight, is_right = _ROUNDINGS[data.dtype.name](source, data, expected)
            if not is_right:
                yield f"its {data.dtype.name} weights are not the rounded float32 ones"
            elif index == 1 and operator.name in _WEIGHTED:
                axis = source.quantization.axis if source.quantization is not None else 0
                result.rounded.append(RoundedOperator(operator, twin, data.dtype.name, weight, axis))


def differing_options(file: TfliteFile, operator: Operator, full: TfliteFile, twin: Operator) -> Iterator[str]:
    """That the options of two operators differ, but for how rounded kernels treat their inputs."""
    if file.custom_options(operator) != full.custom_options(twin) or _options(file, operator) != _options(full, twin):
        yield "its options differ"


def paired_inputs(operator: Operator, twin: Operator) -> tuple[list[tuple[int, Tensor, Tensor]], bool]:
    """((number, input, the twin's input) of those that both have, whether both lack the same ones)."""
    if len(operator.inputs) != len(twin.inputs):
        return [], False
    pairs = list(enumerate(zip(operator.inputs, twin.inputs, strict=True)))
    present = [(index, one, other) for index, (one, other) in pairs if one is not None and other is not None]
    return present, all((one is None) == (other is None) for _, (one, other) in pairs)


# Operators whose input 1 is a filter.
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}


def _float16(source: Tensor, data: Array, expected: Array) -> tuple[Array, bool]:
    return data.astype(np.float32), bool(np.array_equal(data, expected.astype(np.float16)))


def _int8(source: Tensor, data: Array, expected: Array) -> tuple[Array, bool]:
    """In steps of the largest magnitude / 127, of its channel or of all, every weight within half a step."""
    quantization = source.quantization
    if quantization is None or any(quantization.zero_points):
        return data.astype(np.float32), False
    count = len(quantization.scales)
    scaled = quantization.axis if count > 1 or data.shape[quantization.axis] == 1 else None
    if scaled is not None and data.shape[scaled] != count:
        return data.astype(np.float32), False
    scales: Array = along(np.asarray(quantization.scales), scaled, data.ndim)
    weight = data * scales
    others = tuple(axis for axis in range(data.ndim) if axis != scaled)
    largest = np.abs(expected.astype(np.float64)).max(axis=others, keepdims=True)
    steps_are_right = np.abs(scales - largest / LARGEST_INT8) <= SCALE_ROUNDING * scales
    is_right = np.all((largest == 0) | steps_are_right) and np.all(
        np.abs(weight - expected) <= scales * (0.5 + SCALE_ROUNDING)
    )
    return weight.astype(np.float32), bool(is_right and np.all(weight[np.broadcast_to(largest == 0, data.shape)] == 0))


_ROUNDINGS: dict[str, Callable[[Tensor, Array, Array], tuple[Array, bool]]] = {"float16": _float16, "int8": _int8}


def _options(file: TfliteFile, operator: Operator) -> dict[str, str]:
    options = file.options(operator)
    entries = {} if options is None else vars(options)
    return {name: repr(value) for name, value in entries.items() if name not in HYBRID_OPTIONS}


def _shapes(tensors: tuple[Tensor, ...]) -> list[tuple[tuple[int, ...], str]]:
    return [(tensor.shape, tensor.dtype) for tensor in tensors]
