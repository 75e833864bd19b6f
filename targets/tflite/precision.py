"""In which type the weights of float layers are stored.

    float32   as they are
    float16   a float16 constant and a DEQUANTIZE to float32, as TensorFlow Lite's own float16 quantisation writes it;
              the interpreter runs that operator once, XNNPACK and LiteRT fold it when they load the file
    int8      ŵ = s_o·q with s_o = max|w_o| / 127 for each output channel o (one s for all of a FULLY_CONNECTED) and
              q = round(w / s_o); the kernels (hybrid ones: 'dynamic range') quantise their float32 input at run time
              and yield float32

Rounding: |ŵ - w| ≤ 2⁻¹¹·max|w_o| for float16, ≤ s_o / 2 for int8.  On top of it, int8 rounds the input, to steps of
σ = (max(x, 0) - min(x, 0)) / 255: by σ / 2, and as much again because the zero point is an integer.  So

    |y - Σ ŵ·x| ≤ σ·Σ|ŵ_o|     for every output of channel o.

What was tried in LCE 0.16's interpreter (TensorFlow Lite 2.16), with and without XNNPACK (same results: it leaves
hybrid operators alone):

- CONV_2D with one scale a channel (version 5) is right, dilated too.  With one scale for the tensor (version 2) it is
  right too, with 2.5 times the error, but not where the filter has fewer channels than the input.
- DEPTHWISE_CONV_2D with one scale a channel (version 6) is right, dilated too; with one scale for the tensor it yields
  garbage.
- FULLY_CONNECTED with one scale a channel is right in this runtime, though its version for that (12) is not registered,
  but TensorFlow Lite 2.14 (32-bit Raspberry Pi OS, Android) then yields the bias alone, without an error.  With one
  scale for the tensor it is right in all.  On rows of unequal size (0.1 to 3) the error is 4.1 % of the result, against
  1.5 % with one scale a channel; `passes/balance_rows.py` makes them equal before.  The asymmetric form of the input
  (version 9), which the converter asks for, halves the input's part of the error for inputs of one sign, as behind a
  ReLU.
- TRANSPOSE_CONV refuses int8 weights with float inputs: its weights stay float32.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt

# Weights of fewer elements stay float32: a DEQUANTIZE with its tensor, or the scales, take a few hundred bytes.  It is
# the limit of TensorFlow Lite's converter, too.
SMALLEST_ROUNDED = 1024
# float16 for any other float constant of at least so many elements: one value a channel is never that many, so shifts
# and slopes, on which signs hang, stay as they are.
SMALLEST_ROUNDED_CONSTANT = 8192
# int8 weights are symmetric: -127 … 127.
LARGEST_INT8 = 127

Floats = npt.NDArray[np.float32]


class WeightsPrecision(Enum):
    """The values of `--weights-precision`."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


def fits_float16(weight: Floats, axis: int | None = None) -> bool:
    """True where float16 rounds every number by at most 2⁻¹¹ of the largest in its channel (an index of `axis`).

    False, too, where a number is above float16's range or all of a channel is below its normal numbers.
    """
    largest = _largest(weight, axis)
    limits = np.finfo(np.float16)
    return bool(np.all((largest == 0) | ((largest >= limits.tiny) & (largest <= limits.max))))


def quantize(weight: Floats, axis: int | None) -> tuple[npt.NDArray[np.int8], Floats]:
    """(q, s): int8 like `weight`, and a float32 scale for each index of `axis` (1 where all weights are 0).

    Without an axis there is one scale.
    """
    largest = _largest(weight, axis)
    scales = np.atleast_1d(np.where(largest > 0, largest / LARGEST_INT8, 1.0)).astype(np.float32)
    quotients = weight / along(scales, axis, weight.ndim).astype(np.float64)
    return np.clip(np.rint(quotients), -LARGEST_INT8, LARGEST_INT8).astype(np.int8), scales


def fits_int8(weight: Floats, axis: int | None) -> bool:
    """True where every scale is a normal float32."""
    largest = _largest(weight, axis)
    return bool(np.all(np.isfinite(largest) & ((largest == 0) | (largest / LARGEST_INT8 >= np.finfo(np.float32).tiny))))


def along(scales: npt.NDArray[np.generic], axis: int | None, rank: int) -> npt.NDArray[np.generic]:
    """One number for each index of `axis`, or one for all, to broadcast against an array of `rank`."""
    return scales.reshape([-1 if index == axis else 1 for index in range(rank)])


def _largest(weight: Floats, axis: int | None) -> npt.NDArray[np.float64]:
    others = tuple(index for index in range(weight.ndim) if index != axis)
    largest: npt.NDArray[np.float64] = np.abs(weight.astype(np.float64)).max(axis=others, initial=0)
    return largest
