"""Tell a jump that rounding explains from one that it does not.

A sign, comparison or rounding changes by a whole step where its operand crosses a threshold.  Two engines that compute
the operand with different roundings may therefore disagree, but only where the operand is within ε of the threshold:

    Sign x               x = 0
    x < y, x ≥ y, …      x - y = 0
    Round x              x = k + 1/2
    Floor x, Ceil x      x = k

ε is `ROUNDING` times the largest magnitude of the operand, the size that rounding errors of a sum have; or what is
known of the operand's own.
"""

from __future__ import annotations

import numpy as np

from bnncc.frontend.recording import Operation
from bnncc.ir.choices import CHOICES, apart
from bnncc.ir.evaluate import Array
from bnncc.ir.rounding import ROUNDING

_COMPARISONS = ("GreaterOrEqual", "Greater", "LessOrEqual", "Less", "Equal")


def differing(value: Array, reference: Array) -> Array:
    """Where two results of a jump differ: a Boolean array.  NaN equals NaN."""
    return np.not_equal(value, reference) & ~(_is_nan(value) & _is_nan(reference))


def explained(operation: Operation, value: Array, rounding: float = 0.0) -> Array:
    """Where `value`, another result of the operation, differs and its operand is within ε of a threshold: Boolean.

    rounding: what roundings may change of the operand, where that may be more than usual.
    """
    flipped = differing(value, operation.output)
    operands = [np.asarray(operand, dtype=np.float64) for operand in operation.inputs]
    scale = max((float(np.max(np.abs(x[np.isfinite(x)]), initial=0.0)) for x in operands), default=0.0)
    if operation.kind in CHOICES:
        operand = _from_chosen(operation, operands[0], value)
    else:
        operand = operands[0] - (operands[1] if operation.kind in _COMPARISONS else 0.0)
    if operation.kind == "Round":
        operand = operand - np.floor(operand) - 0.5
    elif operation.kind in ("Floor", "Ceil"):
        operand = operand - np.round(operand)
    near = np.abs(np.broadcast_to(operand, flipped.shape)) <= max(ROUNDING * scale, rounding)
    result: Array = flipped & near
    return result


def _from_chosen(operation: Operation, x: Array, indices: Array) -> Array:
    """How far what other indices choose is from what the operation chose."""
    if operation.axis is not None:
        return apart(x, indices, operation.output, operation.axis)
    return apart(x.reshape(-1), indices.reshape(-1), operation.output.reshape(-1), 0).reshape(operation.shape)


def _is_nan(value: Array) -> Array:
    return np.isnan(value) if np.issubdtype(value.dtype, np.floating) else np.zeros(value.shape, bool)
