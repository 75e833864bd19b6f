"""Tell a jump that rounding explains from one that it does not.

A sign, comparison or rounding changes by a whole step where its operand crosses a threshold.  Two engines that compute
the operand with different roundings may therefore disagree, but only where the operand is within ε of the threshold:

    Sign x               x = 0
    x < y, x ≥ y, …      x - y = 0
    Round x              x = k + 1/2
    Floor x, Ceil x      x = k

ε is `ROUNDING` times the largest magnitude of the operand, the size that rounding errors of a sum have.
"""

from __future__ import annotations

import numpy as np

from bnncc.frontend.evaluate import Array
from bnncc.frontend.recording import Operation

# Rounding errors of float32 sums, relative to the largest magnitude of the result.  One rounding is 6e-8; a sum of some
# thousand products with cancellation loses a few decimal digits more.
ROUNDING = 1e-4

_COMPARISONS = ("GreaterOrEqual", "Greater", "LessOrEqual", "Less", "Equal")


def differing(value: Array, reference: Array) -> Array:
    """Where two results of a jump differ: a Boolean array.  NaN equals NaN."""
    return np.not_equal(value, reference) & ~(_is_nan(value) & _is_nan(reference))


def explained(operation: Operation, flipped: Array) -> Array:
    """Of the elements in `flipped` (Boolean, shape of the output), those whose operand is within ε of a threshold."""
    operands = [np.asarray(operand, dtype=np.float64) for operand in operation.inputs]
    scale = max((float(np.max(np.abs(x[np.isfinite(x)]), initial=0.0)) for x in operands), default=0.0)
    operand = operands[0] - (operands[1] if operation.kind in _COMPARISONS else 0.0)
    if operation.kind == "Round":
        operand = operand - np.floor(operand) - 0.5
    elif operation.kind in ("Floor", "Ceil"):
        operand = operand - np.round(operand)
    near = np.abs(np.broadcast_to(operand, flipped.shape)) <= ROUNDING * scale
    return flipped & near


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
    left, right = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        difference = float(np.max(np.where(same, 0.0, np.abs(left - right))))
    finite = np.abs(right[np.isfinite(right)])
    scale = float(np.max(finite, initial=0.0))
    if difference == 0:
        return 0.0
    return difference / scale if scale and np.isfinite(difference) else float("inf")


def _is_nan(value: Array) -> Array:
    return np.isnan(value) if np.issubdtype(value.dtype, np.floating) else np.zeros(value.shape, bool)
