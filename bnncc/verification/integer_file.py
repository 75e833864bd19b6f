"""Is a file another one with some of its operators in int8 (`--quantize int8`), and nothing else?

Every operator of the file is looked at by itself.  What it yields stands for a value of the float32 file, by name; then
it must be that value's own operator, with the same options, reading what stands for what that one reads, or a QUANTIZE
or DEQUANTIZE between two forms of one value.  Constants are those of the float32 file to the bit, or rounded to the
nearest step of their scale.  So the file is the float32 one but for rounding; what its integer kernels then compute is
checked as it runs (`integer_side.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.integer_file import KEPT, SHORT, SHORT_KEPT, SUFFIX
from bnncc.targets.tflite.integer_plan import LAYERS, SAME_SCALE, as_int8
from bnncc.targets.tflite.integers import HIGHEST, LARGEST_BIAS, LOWEST
from bnncc.targets.tflite.precision import LARGEST_INT8, along
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Quantization, Tensor
from bnncc.verification.rounded_weights import SCALE_ROUNDING, Comparison, differing_options, paired_inputs

# Half a step, and what float32 scales add to it.
HALF = 0.5 + SCALE_ROUNDING


def compare_integers(file: TfliteFile, full: TfliteFile) -> Comparison:
    """Compare `file` with `full`, the same network in float32."""
    return _Comparing(file, full).compare()


class _Comparing:
    def __init__(self, file: TfliteFile, full: TfliteFile) -> None:
        self._file, self._full = file, full
        self._result = Comparison()
        self._producer = {tensor.index: operator for operator in full.operators for tensor in operator.outputs}

    def compare(self) -> Comparison:
        file, full, result = self._file, self._full, self._result
        sides = ((file.inputs, full.inputs), (file.outputs, full.outputs))
        if any([_described(one) for one in a] != [_described(one) for one in b] for a, b in sides):
            result.structural = "its inputs and outputs are not those of the float32 file"
            return result
        result.tensors = {a.index: b for a, b in zip(file.inputs, full.inputs, strict=True)}
        for operator in file.operators:
            for problem in self._problems(operator):
                result.problems.append((operator, problem))
        for tensor, other in zip(file.outputs, full.outputs, strict=True):
            constant, expected = file.data(tensor), full.data(other)
            if constant is not None and expected is not None and constant.tobytes() == expected.tobytes():
                result.tensors[tensor.index] = other
            elif result.tensors.get(tensor.index) != other:
                result.structural = "its outputs are not those of the float32 file"
        return result

    def _problems(self, operator: Operator) -> Iterator[str]:
        """What is wrong with an operator; what its outputs stand for is noted."""
        result = self._result
        stand = [self._stand(tensor) for tensor in operator.outputs]
        if any(
            tensor is None or tensor.shape != own.shape for tensor, own in zip(stand, operator.outputs, strict=True)
        ):
            yield "it is no operator of the float32 file"
            return
        values = [tensor for tensor in stand if tensor is not None]
        result.tensors.update((own.index, value) for own, value in zip(operator.outputs, values, strict=True))
        yield from self._bad_scales(operator)
        if self._is_border(operator, values[0]):
            result.integers.append(operator)
            return
        twin = self._producer.get(values[0].index)
        if twin is None or twin.name != operator.name or list(twin.outputs) != values:
            yield "it is no operator of the float32 file"
            return
        result.twins[operator.index] = twin
        if self._is_integer(operator):
            result.integers.append(operator)
        yield from differing_options(self._file, operator, self._full, twin)
        pairs, agree = paired_inputs(operator, twin)
        if not agree:
            yield "its inputs differ"
        for index, tensor, other in pairs:
            if not self._is_input(operator, index, tensor, other):
                yield f"its input {index} is not that of the float32 file"

    def _stand(self, tensor: Tensor) -> Tensor | None:
        """The float32 file's tensor whose value one of the file's has."""
        same = self._full.by_name.get(tensor.name)
        if same is not None and same.dtype == tensor.dtype:
            return same
        for suffix, dtype in ((SUFFIX, "int8"), (SHORT, "int16"), (KEPT, "float32"), (SHORT_KEPT, "float32")):
            if tensor.dtype == dtype and tensor.name.endswith(suffix):
                found = self._full.by_name.get(tensor.name.removesuffix(suffix))
                return found if found is not None and found.dtype == "float32" else None
        return None

    def _is_form(self, tensor: Tensor, other: Tensor) -> bool:
        """True where an activation of the file stands for one of the float32 file, bytes for what they become."""
        known = self._result.tensors.get(tensor.index)
        if known == other:
            return True
        producer = self._producer.get(other.index)
        return (
            known is not None and producer is not None and producer.name == "DEQUANTIZE" and producer.inputs[0] == known
        )

    def _is_border(self, operator: Operator, value: Tensor) -> bool:
        """True for a QUANTIZE or DEQUANTIZE between two forms of one value, that the float32 file does not have."""
        x, y = operator.inputs[0], operator.outputs[0]
        if x is None or operator.name not in ("QUANTIZE", "DEQUANTIZE") or not {x.dtype, y.dtype} & {"int8", "int16"}:
            return False
        if y.dtype == "float32" and self._result.tensors.get(x.index) != value:
            return False
        if x.dtype == "uint8" and y.quantization != as_int8(x):
            return False
        return value.dtype == "float32" and self._is_form(x, value)

    def _is_integer(self, operator: Operator) -> bool:
        """True where an operator computes in int8 what its twin computes in floats."""
        value = self._result.tensors[operator.outputs[0].index]
        return operator.outputs[0].dtype == "int8" and value.dtype == "float32"

    def _bad_scales(self, operator: Operator) -> Iterator[str]:
        tensors = [tensor for tensor in (operator.inputs[0], operator.outputs[0]) if tensor is not None]
        scales = [tensor.quantization for tensor in tensors if tensor.dtype == "int8" and not self._is_constant(tensor)]
        shorts = [tensor.quantization for tensor in tensors if tensor.dtype == "int16"]
        if any(scale is None or scale.zero_points != (0,) for scale in shorts):
            yield "an int16 tensor has no scale, or a zero point"
            return
        for scale in (*scales, *shorts):
            if scale is None or len(scale.scales) != 1 or not LOWEST <= scale.zero_points[0] <= HIGHEST:
                yield "an int8 tensor has no scale, or several"
            elif not (np.isfinite(scale.scales[0]) and scale.scales[0] > 0):
                yield "a scale is no positive number"
        if operator.name in SAME_SCALE and len(scales) == 2 and scales[0] != scales[1]:
            yield "its input and output have two scales"

    def _is_constant(self, tensor: Tensor) -> bool:
        return self._file.data(tensor) is not None

    def _is_input(self, operator: Operator, index: int, tensor: Tensor, other: Tensor) -> bool:
        data, expected = self._file.data(tensor), self._full.data(other)
        if data is None or expected is None:
            return data is expected and self._is_form(tensor, other)
        if data.shape != expected.shape:
            return False
        if data.dtype == expected.dtype:
            return tensor.quantization == other.quantization and data.tobytes() == expected.tobytes()
        if not self._is_integer(operator) or tensor.quantization is None:
            return False
        if operator.name in LAYERS:
            return self._is_bias(operator, tensor) if index == 2 else self._are_weights(operator, tensor)
        return data.dtype == np.int8 and _is_rounded(data, expected, tensor.quantization)

    def _are_weights(self, operator: Operator, tensor: Tensor) -> bool:
        """In steps of the largest magnitude / 127, of a channel or of all, or larger ones where the bias needs them."""
        twin = self._result.twins[operator.index]
        x, weight, bias = operator.inputs[0], twin.inputs[1], twin.inputs[2] if len(twin.inputs) > 2 else None
        data, scales = self._file.data(tensor), tensor.quantization
        expected = None if weight is None else self._full.data(weight)
        if data is None or data.dtype != np.int8 or x is None or x.quantization is None or scales is None:
            return False
        if expected is None or any(scales.zero_points) or data.min(initial=0).item() < -LARGEST_INT8:
            return False
        axis = LAYERS[operator.name]
        shares = len(scales.scales) == 1 and data.shape[axis] != 1
        if scales.axis != axis or (not shares and len(scales.scales) != data.shape[axis]):
            return False
        others = None if shares else tuple(index for index in range(data.ndim) if index != axis)
        largest = np.abs(expected.astype(np.float64)).max(axis=others)
        offsets = None if bias is None else self._full.data(bias)
        magnitudes = np.zeros(data.shape[axis]) if offsets is None else np.abs(offsets.astype(np.float64))
        needed = (magnitudes.max() if shares else magnitudes) / (LARGEST_BIAS * x.quantization.scales[0])
        steps = np.atleast_1d(np.maximum(largest / LARGEST_INT8, needed))
        given = np.asarray(scales.scales)
        right = (steps < np.finfo(np.float32).tiny) | (np.abs(given - steps) <= SCALE_ROUNDING * steps)
        return bool(np.all(right)) and _is_rounded(data, expected, scales, None if shares else axis)

    def _is_bias(self, operator: Operator, tensor: Tensor) -> bool:
        """In steps of the input's scale times the weights'."""
        x, weight, _ = operator.inputs
        expected_tensor = self._result.twins[operator.index].inputs[2]
        assert expected_tensor is not None
        data, expected = self._file.data(tensor), self._full.data(expected_tensor)
        if x is None or weight is None or x.quantization is None or weight.quantization is None:
            return False
        if data is None or expected is None or data.dtype != np.int32 or tensor.quantization is None:
            return False
        steps = x.quantization.scales[0] * np.asarray(weight.quantization.scales)
        given = np.asarray(tensor.quantization.scales)
        if any(tensor.quantization.zero_points) or given.shape != steps.shape:
            return False
        if np.any(np.abs(given - steps) > SCALE_ROUNDING * steps) or np.any(np.abs(data) > 1.001 * LARGEST_BIAS):
            return False
        error = np.abs(data * given - expected)
        return bool(np.all(error <= given * 0.5 + SCALE_ROUNDING * np.maximum(given, np.abs(expected))))


def _is_rounded(data: Array, expected: Array, quantization: Quantization, axis: int | None = None) -> bool:
    """True where integers are the nearest to the numbers: one scale for all, or one for each index of `axis`."""
    if axis is None and len(quantization.scales) != 1:
        return False
    scales: Array = along(np.asarray(quantization.scales), axis, data.ndim)
    points: Array = along(np.asarray(quantization.zero_points), axis, data.ndim)
    return bool(np.all(np.abs(scales * (data.astype(np.int64) - points) - expected) <= scales * HALF))


def _described(tensor: Tensor) -> tuple[object, ...]:
    return tensor.name, tensor.shape, tensor.dtype, tensor.quantization
