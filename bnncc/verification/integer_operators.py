"""TensorFlow Lite's int8 operators in NumPy, by its specification: sums of products are exact, factors in fixed point.

A factor M > 0 is m·2^e with an integer m of 31 bits.  `x·M` is x·m·2⁻³¹, rounded to the nearest with ties upwards, then
divided by 2^-e, rounded with ties away from 0: as the reference kernels do it, but for that of FULLY_CONNECTED, which
rounds once, with ties upwards (LiteRT 2.3).  Others multiply by a float32, and may differ by 1 where x·M is near a tie.

All arrays are the file's: [N, H, W, C], int8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.schema_py_generated import ActivationFunctionType, Padding

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.integers import HIGHEST, LOWEST
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Quantization, Tensor

# How far ADD shifts its operands to the left before it scales them.
ADD_SHIFT = 20
_FRACTION = 31

Integers = npt.NDArray[np.int64]


def expected(file: TfliteFile, operator: Operator, inputs: Sequence[Array]) -> npt.NDArray[np.int8]:
    """What an operator of COMPUTED yields; inputs: its activations, in order."""
    given = iter(inputs)
    operands = [None if tensor is None else (tensor, _array(file, tensor, given)) for tensor in operator.inputs]
    present = [operand for operand in operands if operand is not None]
    return COMPUTED[operator.name](file.options(operator), present, _quantization(operator.outputs[0]), operator)


Operand = tuple[Tensor, Array]


def _array(file: TfliteFile, tensor: Tensor, given: Any) -> Array:
    data = file.data(tensor)
    return next(given) if data is None else data


def _quantization(tensor: Tensor) -> Quantization:
    assert tensor.quantization is not None
    return tensor.quantization


def _steps(operand: Operand) -> Integers:
    """q − z."""
    tensor, array = operand
    return array.astype(np.int64) - _quantization(tensor).zero_points[0]


def scaled(x: Integers, factors: npt.ArrayLike) -> Integers:
    """x·M in fixed point; one factor for all, or one for each of the last axis."""
    multipliers, exponents = _fixed_point(factors)
    product = (x << np.maximum(exponents, 0)) * multipliers
    nudge = np.where(product >= 0, 1 << (_FRACTION - 1), 1 - (1 << (_FRACTION - 1)))
    high = _divided(product + nudge, 1 << _FRACTION)
    right = np.maximum(-exponents, 0)
    mask = (np.int64(1) << right) - 1
    remainder, threshold = high & mask, (mask >> 1) + (high < 0)
    result: Integers = (high >> right) + (remainder > threshold)
    return result


def scaled_once(x: Integers, factors: npt.ArrayLike) -> Integers:
    """The same, rounded once, with ties upwards."""
    multipliers, exponents = _fixed_point(factors)
    shift = _FRACTION - exponents
    result: Integers = (x * multipliers + (np.int64(1) << (shift - 1))) >> shift
    return result


def _fixed_point(factors: npt.ArrayLike) -> tuple[Integers, Integers]:
    """(m, e) of factors m·2^(e - 31)."""
    fractions, exponents = np.frexp(np.asarray(factors, np.float64))
    multipliers = np.floor(fractions * 2.0**_FRACTION + 0.5).astype(np.int64)
    carries = multipliers == 1 << _FRACTION
    multipliers, exponents = np.where(carries, multipliers // 2, multipliers), exponents + carries
    small = exponents < -_FRACTION
    return np.where(small, 0, multipliers), np.where(small, 0, exponents).astype(np.int64)


def _divided(x: Integers, divisor: npt.ArrayLike) -> Integers:
    """Towards 0, as C does."""
    result: Integers = (np.sign(x) * (np.abs(x) // divisor)).astype(np.int64)
    return result


def _saturated(x: Integers, y: Quantization, activation: int) -> npt.NDArray[np.int8]:
    """With the zero point, in int8 and in the bounds of the operator's own activation."""
    (scale,), (point,) = y.scales, y.zero_points
    low, high = {
        ActivationFunctionType.NONE: (-np.inf, np.inf),
        ActivationFunctionType.RELU: (0.0, np.inf),
        ActivationFunctionType.RELU6: (0.0, 6.0),
        ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
    }[activation]
    least = LOWEST if low == -np.inf else max(LOWEST, point + _away(low / scale))
    most = HIGHEST if high == np.inf else min(HIGHEST, point + _away(high / scale))
    return np.clip(x + point, least, most).astype(np.int8)


def _away(number: float) -> int:
    """The nearest integer, ties away from 0."""
    return int(np.sign(number) * np.floor(abs(np.float32(number)) + 0.5))


# Layers


def _conv_2d(options: Any, operands: Sequence[Operand], y: Quantization, operator: Operator) -> npt.NDArray[np.int8]:
    x, (filters, weight) = operands[0], operands[1]
    # float64 holds these sums exactly, and BLAS multiplies no integers.
    windows = _windows(_steps(x), weight.shape[1:3], options, operator).astype(np.float64)
    groups = windows.shape[-1] // weight.shape[-1]
    sums = [
        part.reshape(math.prod(windows.shape[:3]), -1) @ rows.reshape(len(rows), -1).T
        for part, rows in zip(
            np.split(windows, groups, axis=-1), np.split(weight.astype(np.float64), groups), strict=True
        )
    ]
    return _layer(np.concatenate(sums, axis=1).reshape(*windows.shape[:3], -1), operands, filters, y, options)


def _depthwise_conv_2d(
    options: Any, operands: Sequence[Operand], y: Quantization, operator: Operator
) -> npt.NDArray[np.int8]:
    x, (filters, weight) = operands[0], operands[1]
    windows = _windows(_steps(x), weight.shape[1:3], options, operator)
    channels = windows.shape[-1]
    products = weight[0].reshape(*weight.shape[1:3], channels, -1).astype(np.float64)
    sums = np.einsum("nrcijk,ijkm->nrckm", windows.astype(np.float64), products, optimize=True)
    return _layer(sums.reshape(*sums.shape[:3], -1), operands, filters, y, options)


def _fully_connected(
    options: Any, operands: Sequence[Operand], y: Quantization, operator: Operator
) -> npt.NDArray[np.int8]:
    x, (filters, weight) = operands[0], operands[1]
    rows = _steps(x).reshape(-1, weight.shape[1]).astype(np.float64)
    sums = rows @ weight.T.astype(np.float64)
    return _layer(sums, operands, filters, y, options, scaled_once).reshape(operator.outputs[0].shape)


def _layer(
    sums: Array,
    operands: Sequence[Operand],
    filters: Tensor,
    y: Quantization,
    options: Any,
    scale: Callable[[Integers, npt.ArrayLike], Integers] = scaled,
) -> npt.NDArray[np.int8]:
    """sums: Σ q_w·(q_x − z_x), channels last."""
    total = sums.astype(np.int64)
    if len(operands) > 2:
        total = total + operands[2][1]
    (x_scale,), (y_scale,) = _quantization(operands[0][0]).scales, y.scales
    factors = x_scale * np.asarray(_quantization(filters).scales, np.float64) / y_scale
    return _saturated(scale(total, factors), y, options.fusedActivationFunction)


def _windows(x: Integers, kernel: tuple[int, ...], options: Any, operator: Operator) -> Integers:
    """[N, H, W, C] as [N, OH, OW, KH, KW, C]; what padding adds is 0."""
    dilations = (getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1))
    return _view(x, kernel, dilations, options, operator.outputs[0].shape[1:3])


def _view(
    x: Integers, kernel: Sequence[int], dilations: Sequence[int], options: Any, sizes: Sequence[int], fill: int = 0
) -> Integers:
    pads, reaches = [(0, 0)], []
    strides = (options.strideH, options.strideW)
    for size, taps, dilation, stride, wanted in zip(x.shape[1:3], kernel, dilations, strides, sizes, strict=True):
        reach = (taps - 1) * dilation + 1
        total = max((wanted - 1) * stride + reach - size, 0) if options.padding == Padding.SAME else 0
        pads.append((total // 2, total - total // 2))
        reaches.append(reach)
    padded = np.pad(x, [*pads, (0, 0)], constant_values=fill)
    view: Any = np.lib.stride_tricks.sliding_window_view(padded, tuple(reaches), axis=(1, 2))  # type: ignore[call-overload]
    view = view[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]
    result: Integers = view[:, : sizes[0], : sizes[1]].transpose(0, 1, 2, 4, 5, 3)
    return result


# Others


def _average_pool_2d(
    options: Any, operands: Sequence[Operand], y: Quantization, operator: Operator
) -> npt.NDArray[np.int8]:
    """The mean of the integers, ties away from 0; what padding adds does not count."""
    kernel, sizes = (options.filterHeight, options.filterWidth), operator.outputs[0].shape[1:3]
    x = operands[0][1].astype(np.int64)
    sums = _view(x, kernel, (1, 1), options, sizes).sum(axis=(3, 4))
    counts = _view(np.ones_like(x), kernel, (1, 1), options, sizes).sum(axis=(3, 4))
    mean = _divided(sums + np.where(sums > 0, counts // 2, -(counts // 2)), counts)
    return _saturated(mean - y.zero_points[0], y, options.fusedActivationFunction)


def _add(options: Any, operands: Sequence[Operand], y: Quantization, operator: Operator) -> npt.NDArray[np.int8]:
    scales = [_quantization(tensor).scales[0] for tensor, _ in operands]
    largest = 2 * max(scales)
    terms = [
        scaled(_steps(operand) << ADD_SHIFT, scale / largest) for operand, scale in zip(operands, scales, strict=True)
    ]
    total = scaled(terms[0] + terms[1], largest / ((1 << ADD_SHIFT) * y.scales[0]))
    return _saturated(total, y, options.fusedActivationFunction)


def _prelu(options: Any, operands: Sequence[Operand], y: Quantization, operator: Operator) -> npt.NDArray[np.int8]:
    x, slope = (_steps(operand) for operand in operands)
    (x_scale,), (slope_scale,) = (_quantization(tensor).scales for tensor, _ in operands)
    (y_scale,) = y.scales
    negative = scaled(x * slope, x_scale * slope_scale / y_scale)
    return _saturated(np.where(x >= 0, scaled(x, x_scale / y_scale), negative), y, ActivationFunctionType.NONE)


COMPUTED = {
    "CONV_2D": _conv_2d, "DEPTHWISE_CONV_2D": _depthwise_conv_2d, "FULLY_CONNECTED": _fully_connected,
    "AVERAGE_POOL_2D": _average_pool_2d, "ADD": _add, "PRELU": _prelu,
}  # fmt: skip
