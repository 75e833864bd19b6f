"""How far two right float programs may be apart."""

from __future__ import annotations

import numpy as np

from bnncc.ir.evaluate import Array
from bnncc.ir.rounding import ROUNDING, differences

# The part of the largest magnitude of a whole tensor that rounding may leave in a channel of small values.
CANCELLATION = 1e-5
# Numbers below 2⁻¹²⁶ are 0 to LCE and XNNPACK, and not to others; a factor behind one leaves it below this.
FLUSHED = 1e-36


def channel_scale(reference: Array) -> Array:
    """What rounding may amount to, for each channel of a stored (channels last) array."""
    magnitude = np.abs(reference.astype(np.float64))
    axes = tuple(range(magnitude.ndim - 1))
    scale: Array = ROUNDING * magnitude.max(axis=axes, keepdims=True) + CANCELLATION * magnitude.max(initial=0.0)
    return np.where(scale == 0, np.finfo(np.float64).tiny, scale)


def channel_magnitude(reference: Array) -> Array:
    """The largest magnitude in each channel of a stored (channels last) array; never 0."""
    magnitude = np.abs(reference.astype(np.float64))
    largest: Array = magnitude.max(axis=tuple(range(magnitude.ndim - 1)), keepdims=True, initial=0.0)
    return np.where(largest == 0, np.finfo(np.float64).tiny, largest)


def largest_error(array: Array, reference: Array, allowed: Array | float) -> float:
    """The largest error in units of what is allowed; infinite where nothing is, or where one of them is no number.

    An error no larger than `FLUSHED` is none.  What is infinite or no number in both is equal.
    """
    beyond = np.maximum(differences(array, reference) - FLUSHED, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = float(np.max(np.where(beyond == 0, 0.0, beyond / allowed), initial=0.0))
    return float("inf") if np.isnan(error) else error


def output_error(array: Array, reference: Array) -> float:
    """The largest error relative to the largest finite magnitude of the reference; absolute where that is 0.

    What is infinite or no number in both is equal.  In float64, where a boolean that differs is off by 1.
    """
    reference = reference.astype(np.float64)
    scale = float(np.max(np.abs(reference[np.isfinite(reference)]), initial=0.0))
    difference = float(np.max(differences(array, reference), initial=0.0))
    if np.isnan(difference):
        return float("inf")
    return difference / scale if scale else difference
