"""How far two right float programs may be apart."""

from __future__ import annotations

import numpy as np

from bnncc.ir.evaluate import Array
from bnncc.ir.rounding import ROUNDING, differences

# The part of the largest magnitude of a whole tensor that rounding may leave in a channel of small values.
CANCELLATION = 1e-5
# Numbers below 2⁻¹²⁶ are 0 to LCE and XNNPACK, and not to others; a factor behind one leaves it below this.
FLUSHED = 1e-36
# What TensorFlow Lite's built-in arithmetic yields for infinity.
LARGEST = float(np.finfo(np.float32).max)


def channel_scale(reference: Array) -> Array:
    """What rounding may amount to, for each channel of a stored (channels last) array."""
    largest = _largest_in_channels(reference)
    scale: Array = ROUNDING * largest + CANCELLATION * largest.max(initial=0.0)
    return np.where(scale == 0, np.finfo(np.float64).tiny, scale)


def channel_magnitude(reference: Array) -> Array:
    """The largest magnitude in each channel of a stored (channels last) array; never 0."""
    largest = _largest_in_channels(reference)
    return np.where(largest == 0, np.finfo(np.float64).tiny, largest)


def _largest_in_channels(array: Array) -> Array:
    """The largest magnitude along all axes but the last, which stay with length 1; float64."""
    exact = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    largest: Array = np.abs(exact).max(axis=tuple(range(array.ndim - 1)), keepdims=True, initial=0.0)
    return largest.astype(np.float64)


def largest_error(array: Array, reference: Array, allowed: Array | float) -> float:
    """The largest error in units of what is allowed; infinite where nothing is, or where one of them is no number.

    An error no larger than `FLUSHED` is none.  What is infinite or no number in both is equal; so are infinity and the
    largest float32.
    """
    beyond = _apart(array, reference)
    beyond -= FLUSHED
    np.maximum(beyond, 0.0, out=beyond)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = beyond / allowed
        error = float(np.max(relative, initial=0.0))
        if np.isnan(error):  # 0 / 0 as well
            error = float(np.max(np.where(beyond == 0, 0.0, relative), initial=0.0))
    return float("inf") if np.isnan(error) else error


def output_error(array: Array, reference: Array) -> float:
    """The largest error relative to the largest finite magnitude of the reference; absolute where that is 0.

    What is infinite or no number in both is equal.  In float64, where a boolean that differs is off by 1.
    """
    reference = reference.astype(np.float64)
    scale = float(np.max(np.abs(reference[np.isfinite(reference)]), initial=0.0))
    difference = float(np.max(_apart(array, reference), initial=0.0))
    if np.isnan(difference):
        return float("inf")
    return difference / scale if scale else difference


def _apart(array: Array, reference: Array) -> Array:
    """The differences, of which one between infinity and the largest float32 is none."""
    apart = differences(array, reference)
    if np.isinf(np.max(apart, initial=0.0)):
        large = (np.abs(array) >= LARGEST) & (np.abs(reference) >= LARGEST)
        apart[large & (np.signbit(array) == np.signbit(reference))] = 0.0
    return apart
