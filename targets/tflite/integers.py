"""The numbers of TensorFlow Lite's 8-bit quantisation specification.

Source: ai.google.dev/edge/litert/models/quantization_spec.

    activation   x ≈ s_x·(q − z)        one s_x and z a tensor, q from -128 to 127; 0 is one of the numbers
    weight       w_o ≈ s_o·q            one s_o an output channel o (FULLY_CONNECTED: one for all), q from -127 to 127
    bias         b_o ≈ s_x·s_o·q        int32
    output       y = Σ w·x + b ≈ s_y·(Q − z_y),   Q = round(s_x·s_o / s_y · (Σ q_w·(q_x − z_x) + q_b)) + z_y

The sum is an exact integer.  Only the factor s_x·s_o / s_y is computed otherwise from kernel to kernel: in fixed point
by TensorFlow Lite, in float32 by XNNPACK.  So two kernels may differ by 1 in Q, where the product is near a tie.

s_o = max|w_o| / 127, but for channels whose bias is so large that it would not fit into `LARGEST_BIAS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bnncc.targets.tflite.precision import LARGEST_INT8, along
from bnncc.targets.tflite.writer import Quantization

LOWEST, HIGHEST = -128, 127
# A bias takes no more than half of what an int32 holds; the sum has the rest.
LARGEST_BIAS = 2.0**30
# Products of so many weights and inputs cannot overflow that rest: 127 · 255 each.
MOST_PRODUCTS = int((2**31 - LARGEST_BIAS) // (LARGEST_INT8 * (HIGHEST - LOWEST)))

Range = tuple[float, float]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Integers:
    """`--quantize int8`: which layers run in int8, and what their activations are between.

    keep_float: module paths of layers that stay in float, each with all that is in it.
    ranges: (lowest, highest) of each activation, by the name of the float32 file's tensor; empty before they are
    measured, and the file is that float32 one then.
    exponents: by which powers of two the channels of a convolution are divided, by the name of what it yields, before
    they are int8.
    method: how `ranges` came of what was seen; inputs: on how many inputs.
    shortcuts: whether the maps that wait for a binary layer are kept in int8 meanwhile.
    """

    keep_float: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)
    exponents: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    method: str = ""
    inputs: int = 0
    shortcuts: bool = False


def parameters(low: float, high: float) -> Quantization:
    """Scale and zero point of an activation between two numbers: 255 steps, of which one is 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / (HIGHEST - LOWEST))
    if not scale >= np.finfo(np.float32).tiny:  # it is always 0
        return Quantization((1.0,), (0,), 0)
    zero_point = int(np.clip(np.rint(LOWEST - low / float(scale)), LOWEST, HIGHEST))
    return Quantization((float(scale),), (zero_point,), 0)


def quantized(array: npt.ArrayLike, quantization: Quantization) -> npt.NDArray[np.int8]:
    """Numbers in steps of one scale, ties to even, saturated."""
    (scale,), (zero_point,) = quantization.scales, quantization.zero_points
    steps = np.rint(np.asarray(array, np.float64) / scale) + zero_point
    return np.asarray(np.clip(steps, LOWEST, HIGHEST), np.int8)


def dequantized(array: npt.NDArray[np.generic], quantization: Quantization) -> Floats:
    """What integers with one scale stand for, as DEQUANTIZE computes it."""
    (scale,), (zero_point,) = quantization.scales, quantization.zero_points
    return (np.float32(scale) * (array.astype(np.int32) - zero_point).astype(np.float32)).astype(np.float32)


def quantized_layer(
    weight: Floats, bias: Floats, axis: int, x: Quantization, shares_scale: bool
) -> tuple[npt.NDArray[np.int8], Quantization, npt.NDArray[np.int32], Quantization]:
    """(weights, their scales, bias, its scales) of a layer whose input has the scale of `x`.

    axis: that of the output channels.  shares_scale: one scale for all of them.
    """
    others = None if shares_scale else tuple(index for index in range(weight.ndim) if index != axis)
    (scale,) = x.scales
    largest = np.abs(weight.astype(np.float64)).max(axis=others)
    largest_bias = np.abs(bias.astype(np.float64))
    needed = (largest_bias.max(initial=0.0) if shares_scale else largest_bias) / (LARGEST_BIAS * scale)
    steps = np.atleast_1d(np.maximum(largest / LARGEST_INT8, needed))
    scales = np.where(steps < np.finfo(np.float32).tiny, 1.0, steps).astype(np.float32)
    quotients = weight / np.asarray(along(scales, None if shares_scale else axis, weight.ndim), np.float64)
    integers = np.clip(np.rint(quotients), -LARGEST_INT8, LARGEST_INT8).astype(np.int8)
    bias_scales = (np.float32(scale) * scales).astype(np.float32)
    bias_integers = np.rint(bias / bias_scales.astype(np.float64)).astype(np.int32)
    return integers, _by_channel(scales, axis), bias_integers, _by_channel(bias_scales, 0)


def _by_channel(scales: Floats, axis: int) -> Quantization:
    return Quantization(tuple(scales.tolist()), (0,) * scales.size, axis)
