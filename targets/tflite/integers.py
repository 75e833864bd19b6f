"""The numbers of TensorFlow Lite's quantisation specification of 8 bits, and of shortcuts in 16.

Source: ai.google.dev/edge/litert/models/quantization_spec.

    activation   x ≈ s_x·(q − z)        one s_x and z a tensor, q from -128 to 127; 0 is one of the numbers
    weight       w_o ≈ s_o·q            one s_o an output channel o (FULLY_CONNECTED: one for all), q from -127 to 127
    bias         b_o ≈ s_x·s_o·q        int32
    output       y = Σ w·x + b ≈ s_y·(Q − z_y),   Q = round(s_x·s_o / s_y · (Σ q_w·(q_x − z_x) + q_b)) + z_y

The sum is an exact integer.  Only the factor s_x·s_o / s_y is computed otherwise from kernel to kernel: in fixed point
by TensorFlow Lite, in float32 by XNNPACK.  So two kernels may differ by 1 in Q, where the product is near a tie.

s_o = max|w_o| / 127, but for channels whose bias is so large that it would not fit into `LARGEST_BIAS`.

    QUANTIZE     q = round(fl(x / s_x)) + z       fl: the nearest float32; round: to the nearest, ties away from 0

The scale of what becomes int8 so is the nearest to the range's for which round(fl(x · fl(1 / s_x))) is the same for
every float32 x: the delegate then multiplies (`exact_factor.h`, which has the proof).  It is some 26 float32s away,
which moves no bound of the range by a fiftieth of a step.  Scales of int16 are powers of two, which have that property.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bnncc.targets.tflite.precision import LARGEST_INT8, along
from bnncc.targets.tflite.writer import Quantization

LOWEST, HIGHEST = -128, 127
# How maps are kept that wait for a binary layer; in int8, where a bound of accuracy allows it, else in int16.
FLOAT32, INT8, INT16 = "float32", "int8", "int16"
SHORTCUTS = (FLOAT32, INT8, INT16)
# How many float32s around a scale are tried: of 300 scales all had one within 502 on either side, most within 26.
NEIGHBOURS = 4096
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
    ranges: (lowest, highest) of each activation, by the name of the float32 file's tensor, of what int16 keeps by the
    name that it has there; empty before they are measured, and the file is that float32 one then.
    exponents: by which powers of two the channels of a convolution are divided, by the name of what it yields, before
    they are int8.
    method: how `ranges` came of what was seen; inputs: on how many inputs.
    shortcuts: one of SHORTCUTS, in which the maps that wait for a binary layer are kept meanwhile.
    """

    keep_float: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)
    exponents: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    method: str = ""
    inputs: int = 0
    shortcuts: str = FLOAT32


def parameters(low: float, high: float, *, multiplies: bool = False) -> Quantization:
    """Scale and zero point of an activation between two numbers: 255 steps, of which one is 0.

    multiplies: a scale by whose reciprocal QUANTIZE may multiply.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / (HIGHEST - LOWEST))
    if not scale >= np.finfo(np.float32).tiny:  # it is always 0
        return Quantization((1.0,), (0,), 0)
    if multiplies:
        scale = multiplying(scale)
    zero_point = int(np.clip(np.rint(LOWEST - low / float(scale)), LOWEST, HIGHEST))
    return Quantization((float(scale),), (zero_point,), 0)


def short_parameters(low: float, high: float) -> Quantization:
    """Scale and zero point, which is 0, of an activation between two numbers in int16: the least power of two of
    which 2^15 steps reach both.
    """
    _, exponent = math.frexp(max(-low, high, 0.0))
    scale = np.ldexp(np.float32(1), exponent - 15)
    return Quantization((float(scale) if scale >= np.finfo(np.float32).tiny else 1.0,), (0,), 0)


@functools.cache
def multiplying(scale: np.float32) -> np.float32:
    """The nearest scale by whose reciprocal QUANTIZE may multiply; the scale itself where none is found, or where it is
    very small or large.
    """
    if not 2.0**-60 <= scale <= 2.0**60:
        return scale
    for first in range(0, NEIGHBOURS, 256):
        distances = np.arange(first, first + 256)
        signed = np.where(distances % 2, -(distances + 1) // 2, distances // 2).astype(np.int32)
        candidates = (scale.view(np.int32) + signed).astype(np.int32).view(np.float32)
        found = np.flatnonzero(_multiplies(candidates))
        if found.size:
            return np.float32(candidates[found[0]])
    return scale


def _multiplies(scales: Floats) -> npt.NDArray[np.bool_]:
    """Whether the floats from which on quotient and product reach n - ½ are the same, for n up to 255: see
    `exact_factor.h`.
    """
    bounds = (np.arange(1, HIGHEST - LOWEST + 1) - 0.5).astype(np.float32)
    divisors = scales[:, np.newaxis]
    factors = np.float32(1) / divisors
    near = (divisors * bounds).view(np.int32)
    same = np.ones(len(scales), np.bool_)
    # Below the first of these floats both lie below the bound, above the last one both have reached it.
    for distance in range(-2, 3):
        x = (near + distance).astype(np.int32).view(np.float32)
        same &= np.all((x / divisors >= bounds) == (x * factors >= bounds), axis=1)
    return same


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
