"""How large a difference between two float programs may be when both are right."""

from __future__ import annotations

import numpy as np

from bnncc.ir.evaluate import Array

# Rounding errors of float32 sums, relative to the largest magnitude of the result.  One rounding is 6e-8; a sum of some
# thousand products with cancellation loses a few decimal digits more.
ROUNDING = 1e-4


def relative_error(value: Array, reference: Array) -> float:
    """max|value - reference| / max|reference|; infinite where shapes, infinities or NaNs differ."""
    if value.shape != reference.shape:
        return float("inf")
    if not value.size:
        return 0.0
    if value.dtype == np.float32 == reference.dtype:
        difference = float(np.max(np.abs(value - reference)))
        scale = float(np.max(np.abs(reference)))
        if np.isfinite(difference) and np.isfinite(scale):
            return difference / scale if scale else (0.0 if difference == 0 else float("inf"))
    difference = float(np.max(differences(value, reference)))
    finite = np.abs(reference[np.isfinite(reference)])
    scale = float(np.max(finite, initial=0.0))
    if difference == 0:
        return 0.0
    return difference / scale if scale and np.isfinite(difference) else float("inf")


def differences(value: Array, reference: Array) -> Array:
    """|value - reference| in float64: 0 where both are one infinity or no numbers, NaN where one of them is none."""
    left, right = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):
        apart: Array = np.asarray(left - right)
    np.abs(apart, out=apart)
    if np.isnan(np.max(apart, initial=0.0)):  # of numbers, and of infinities that differ, it never is
        apart[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
    return apart
