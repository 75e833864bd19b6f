"""Read a piecewise-linear function as one of two values and one jump a channel.

    f(x) = low for x < t, high for x > t    (rising)        or  high for x < t, low for x > t    (falling)

What the function is at t, low, high, something between (PyTorch's sign(0) = 0) or nothing (x / |x|), is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnncc.passes.piecewise import Matrix, Piecewise, simplified

# Two values that differ by less, relative to the larger, differ by the rounding of float32 constants.
SAME = 1e-6

# A threshold closer to 0 is one that avoids sign(0), as in sign(x + 1e-12): activations are not that small.
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Steps:
    """low and high [C]; threshold [C], +inf in a channel without a jump; rising [C], there true where f is high.

    at [C]: the value at the threshold, NaN where there is none.
    """

    low: Matrix
    high: Matrix
    threshold: Matrix
    rising: npt.NDArray[np.bool_]
    at: Matrix

    @property
    def jumps(self) -> npt.NDArray[np.bool_]:
        """The channels that have a threshold."""
        return np.isfinite(self.threshold)

    @property
    def is_sign(self) -> bool:
        """True where the values are -1 and +1."""
        return bool(np.all(self.low == -1) and np.all(self.high == 1))


def steps_of(function: Piecewise) -> Steps | None:
    """The two values and the threshold of every channel; None where it is not such a function."""
    if function.center is not None:
        return None
    function = simplified(function, SAME)
    if not function.is_flat or function.knots.shape[1] != 1:
        return None
    threshold, at = function.knots[:, 0], function.at[:, 0]
    left, right = function.offsets[:, 0], function.offsets[:, 1]
    jumps = np.isfinite(threshold)
    if np.any(jumps & (np.abs(left - right) <= SAME * np.maximum(np.abs(left), np.abs(right)))):
        return None  # A single point that differs.
    low, high, rising = np.minimum(left, right), np.maximum(left, right), right > left
    low, high = _uniform(low, jumps), _uniform(high, jumps)
    if not jumps.all():
        same_low, same_high = (
            np.abs(left - one) <= SAME * np.maximum(np.abs(low), np.abs(high)) for one in (low, high)
        )
        if np.any(low == high) or np.any(~jumps & ~same_low & ~same_high):
            return None
        rising = np.where(jumps, rising, same_high)
    size = SAME * np.maximum(np.abs(low), np.abs(high))
    for one in (low, high):
        at = np.where(np.abs(at - one) <= size, one, at)
    return _centered(Steps(low, high, threshold, rising, at), function)


def _uniform(values: Matrix, jumps: npt.NDArray[np.bool_]) -> Matrix:
    """One number for all channels where they are the same up to rounding, and ±1 and 0 exactly."""
    first = values[jumps][0]
    nearest = np.rint(first)
    first = nearest if abs(first - nearest) <= SAME else first
    same = np.all(np.abs(values[jumps] - first) <= SAME * max(abs(first), 1e-30))
    return np.full_like(values, first) if same else values


def _centered(steps: Steps, function: Piecewise) -> Steps:
    """Negligible thresholds become 0, with what the function is there."""
    negligible = np.abs(steps.threshold) <= NEGLIGIBLE
    if not np.any(negligible & (steps.threshold != 0)):
        return steps
    zero = function(np.zeros((function.channels, 1)))[:, 0]
    at, threshold = np.where(negligible, zero, steps.at), np.where(negligible, 0.0, steps.threshold)
    return Steps(steps.low, steps.high, threshold, steps.rising, at)
