"""The integer operators of a file as they run, each against the same integer arithmetic, fed the file's own values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.integer_plan import EXACT
from bnncc.targets.tflite.integers import dequantized
from bnncc.targets.tflite.reader import Operator
from bnncc.targets.tflite.writer import Tensor
from bnncc.verification.integer_operators import COMPUTED, expected
from bnncc.verification.reference_side import Reference
from bnncc.verification.result import IntegerCheck

# By which two kernels may differ: one multiplies in fixed point, another in float32.
ONE_UNIT = 1
# Of the largest number that a tensor can hold: kernels multiply q − z by the scale, or q and z one by one.
ROUNDING = 2.0**-22


class IntegerSide:
    """One runtime's integer operators.

    tensors: what is to be known of the file's run, for `check`.  checks: of the operators.
    """

    def __init__(self, reference: Reference, runtime: Runtime) -> None:
        file, full = reference.file, reference.full
        self._reference, self._runtime = reference, runtime
        self._operators = reference.comparison.integers
        self.checks = [
            IntegerCheck(reference.module_of(reference.comparison.twins.get(one.index, one)), one.name)
            for one in self._operators
        ]
        touched = [tensor for one in self._operators for tensor in (*file.activations(one), *one.outputs)]
        given = {tensor.index for tensor in file.inputs}
        self.tensors = [tensor for tensor in dict.fromkeys(touched) if tensor.index not in given]
        # What only moves elements is what the float32 file's operator makes of the numbers that they stand for.
        self._exact = [one for one in self._operators if one.name in EXACT]
        twins = [reference.comparison.twins[one.index] for one in self._exact]
        self._exact_inputs = list(dict.fromkeys(full.activations(twin)[0] for twin in twins))
        outputs = [twin.outputs[0] for twin in twins]
        self._moves = full.variant(self._exact_inputs, (), split=outputs) if twins else None

    def check(self, values: Mapping[int, Array], floats: Mapping[int, Array]) -> Iterator[str]:
        """Compare every operator, and yield what is wrong.

        values: of `tensors` and the file's inputs, by index; floats: of the float32 file, by index, as far as known.
        """
        moved = self._moved(values)
        for operator, check in zip(self._operators, self.checks, strict=True):
            x, output = self._reference.file.activations(operator), operator.outputs[0]
            found = values[output.index]
            wanted = moved.get(operator.index)
            if wanted is None:
                wanted = self._expected(operator, [values[tensor.index] for tensor in x])
            if found.dtype == np.float32:
                distance = np.where(np.abs(found - wanted) <= _rounding(operator), 0, ONE_UNIT + 1)
            else:
                distance = np.abs(found.astype(np.int32) - wanted.astype(np.int32))
            check.values += found.size
            check.differing += int(np.count_nonzero(distance))
            check.wrong += int(np.count_nonzero(distance > (0 if operator.name in EXACT else ONE_UNIT)))
            self._add_noise(check, operator, found, floats)
            if check.wrong:
                yield f"layer '{check.module}': {operator.name} in int8 yields other integers than its specification"

    def _expected(self, operator: Operator, x: Sequence[Array]) -> Array:
        if operator.name in COMPUTED:
            return expected(self._reference.file, operator, x)
        source, target = operator.inputs[0], operator.outputs[0]
        assert source is not None
        numbers = x[0] if source.quantization is None else _numbers(source, x[0])
        if target.quantization is None or target.dtype == "float32":
            return np.asarray(numbers)
        (scale,), (point,) = target.quantization.scales, target.quantization.zero_points
        bounds = np.iinfo(target.dtype)
        steps = np.rint(numbers / np.float32(scale)) + point
        return np.asarray(np.clip(steps, bounds.min, bounds.max).astype(target.dtype))

    def _moved(self, values: Mapping[int, Array]) -> dict[int, Array]:
        """What the exact operators yield, by their indices."""
        if self._moves is None:
            return {}
        by_twin = {}
        for operator in self._exact:
            twin = self._reference.comparison.twins[operator.index]
            (x,) = self._reference.file.activations(operator)
            by_twin[self._reference.full.activations(twin)[0]] = _numbers(x, values[x.index])
        results = self._runtime.load(self._moves).run([by_twin[tensor] for tensor in self._exact_inputs])
        found = {}
        for operator, numbers in zip(self._exact, results, strict=True):
            quantization = operator.outputs[0].quantization
            assert quantization is not None
            (scale,), (point,) = quantization.scales, quantization.zero_points
            found[operator.index] = np.rint(numbers / np.float32(scale)).astype(np.int32) + point
        return found

    def _add_noise(self, check: IntegerCheck, operator: Operator, found: Array, floats: Mapping[int, Array]) -> None:
        twin = self._reference.comparison.twins.get(operator.index)
        signal = None if twin is None else floats.get(twin.outputs[0].index)
        if signal is not None:
            error = _numbers(operator.outputs[0], found).astype(np.float64) - signal
            check.signal += float(np.sum(np.square(signal.astype(np.float64))))
            check.noise += float(np.sum(np.square(error)))


def _numbers(tensor: Tensor, array: Array) -> Array:
    """What the integers of a tensor stand for."""
    assert tensor.quantization is not None
    return dequantized(array, tensor.quantization)


def _rounding(operator: Operator) -> float:
    """What a DEQUANTIZE may be off by."""
    x = operator.inputs[0]
    assert x is not None
    assert x.quantization is not None
    bounds = np.iinfo(x.dtype)
    return float(ROUNDING * x.quantization.scales[0] * (bounds.max - bounds.min))


def as_floats(tensor: Tensor, full: Tensor, array: Array) -> Array:
    """What an array of a tensor, of the file or of the float32 one, is as floats where the float32 file has floats."""
    return _numbers(tensor, array) if array.dtype in (np.int8, np.int16) and full.dtype == "float32" else array
