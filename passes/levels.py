"""Read a piecewise-linear function as a few levels, and these as a sum of bits.

    f(x) = L_k for T_k ≤ x < T_(k+1), k = 0 … n-1           T_0 = -∞, T_n = ∞

T are float32 numbers: where f(t) at a threshold t is the lower level, T is the next float32.  A threshold at which f is
neither of the levels beside it, as PyTorch's sign is 0 at 0, is two, t and the next, with a level between.

    thermometer, any n and L:            f(x) = c + Σ_i w_i · t_i          t_i = +1 where x ≥ T_i, else -1
                                         w_i = (L_i - L_(i-1)) / 2         c = (L_0 + L_(n-1)) / 2
    two bits, L_1 - L_0 = L_3 - L_2:     f(x) = c + w_h · h + w_l · l      h = t_2,  l = t_1 · t_2 · t_3
                                         w_h = (L_2 - L_0) / 2,  w_l = (L_1 - L_0) / 2

l is the sign of x less a threshold that h chooses: T_3 where x ≥ T_2, else T_1.

c is shared out: where the levels are symmetric there is none, and a padded 0 is 0 in every term.  Where 0 is a level,
each term gets the share by which its bit is 0 there, so that padding is with ±1; else the first term has all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnncc.passes.piecewise import Matrix, Piecewise, simplified

# Numbers that differ by less, relative to the range of the levels, differ by the rounding of float32 constants.
SAME = 1e-6
# What is above 0, as a threshold: kernels may flush what is smaller.
TINY = np.finfo(np.float32).tiny
# More are no few: so many bits less one are multiplied in their place.
MOST_LEVELS = 8


@dataclass(frozen=True)
class Levels:
    """values [n], ascending; thresholds float32 [C or 1, n - 1], from each of which on f is the next level."""

    values: Matrix
    thresholds: npt.NDArray[np.float32]

    @property
    def is_two_bits(self) -> bool:
        """True for four levels that two bits say."""
        gaps = np.diff(self.values)
        return len(self.values) == 4 and bool(abs(gaps[0] - gaps[2]) <= SAME * np.ptp(self.values))

    @property
    def between(self) -> list[float]:
        """A number between each two levels."""
        return [float(number) for number in (self.values[1:] + self.values[:-1]) / 2]


@dataclass(frozen=True)
class Bit:
    """±weight · b + offset, one term of the sum.

    chosen: which of the thresholds b compares with: one, or the low, middle and high ones of the lower of two bits.
    weight: negative where b is +1 for the lower levels.
    """

    chosen: tuple[int, ...]
    weight: float
    offset: float


def levels_of(function: Piecewise) -> Levels | None:
    """The levels of a function that rises from each to the next, the same in all channels; None where it does not."""
    if function.center is not None:
        return None
    function = simplified(function, SAME)
    if not function.is_flat or not 1 <= function.knots.shape[1] < MOST_LEVELS or not np.isfinite(function.knots).all():
        return None
    pieces, at = function.offsets, function.at
    size = np.ptp(pieces)
    if np.isnan(at).any() or np.any(np.diff(pieces, axis=1) <= SAME * size):
        return None
    tolerance = SAME * size
    values, thresholds = [pieces[:, 0]], []
    for index in range(function.knots.shape[1]):
        knot, here = function.knots[:, index], at[:, index]
        lower, upper = np.abs(here - pieces[:, index]) <= tolerance, np.abs(here - pieces[:, index + 1]) <= tolerance
        first, following = _first_float32(knot), _float32_behind(knot)
        if not np.any(lower | upper) and np.all((here > pieces[:, index]) & (here < pieces[:, index + 1])):
            values.append(here)
            thresholds.append(first)
            lower = np.ones_like(lower)
        elif not np.all(lower | upper):
            return None
        values.append(pieces[:, index + 1])
        thresholds.append(np.where(lower, following, first).astype(np.float32))
    table = np.stack(values, axis=1)
    if len(values) > MOST_LEVELS or np.any(np.abs(table - table[:1]) > tolerance):
        return None
    return Levels(table[0], np.stack(thresholds, axis=1))


def bits_of(levels: Levels) -> list[Bit]:
    """The terms that add up to the levels, the fewest; the one with the largest weight first."""
    values = levels.values
    if levels.is_two_bits:
        chosen: list[tuple[int, ...]] = [(1,), (0, 1, 2)]
        weights = [float(values[2] - values[0]) / 2, float(values[1] - values[0]) / 2]
    else:
        chosen = [(index,) for index in range(len(values) - 1)]
        weights = [float(gap) / 2 for gap in np.diff(values)]
    middle, size = float(values[0] + values[-1]) / 2, float(np.ptp(values))
    zero = np.flatnonzero(np.abs(values) <= SAME * size)
    if abs(middle) <= SAME * size:
        shares = [0.0] * len(weights)
        # Not above 0 is said without a threshold.
        above_zero = [len(which) == 1 and np.all(levels.thresholds[:, which[0]] == TINY) for which in chosen]
        weights = [-weight if above else weight for weight, above in zip(weights, above_zero, strict=True)]
    elif zero.size:
        # +1 where the level is 0: LCE pads with that.
        senses = [_bit(which, int(zero[0])) for which in chosen]
        return [
            Bit(which, weight * sense, -weight * sense)
            for which, weight, sense in zip(chosen, weights, senses, strict=True)
        ]
    else:
        shares = [middle, *[0.0] * (len(weights) - 1)]
    return [Bit(*term) for term in zip(chosen, weights, shares, strict=True)]


def _bit(chosen: tuple[int, ...], level: int) -> int:
    """Whether a bit is +1 at a level, or -1."""
    return int(np.prod([1 if level > index else -1 for index in chosen]))


def _first_float32(numbers: Matrix) -> npt.NDArray[np.float32]:
    """The smallest float32 that is no less."""
    rounded = numbers.astype(np.float32)
    return np.where(rounded < numbers, np.nextafter(rounded, np.float32(np.inf)), rounded)


def _float32_behind(numbers: Matrix) -> npt.NDArray[np.float32]:
    """The smallest float32 that is larger; behind 0 the smallest normal one, as kernels may flush others."""
    rounded = numbers.astype(np.float32)
    following = np.where(rounded > numbers, rounded, np.nextafter(rounded, np.float32(np.inf)))
    return np.where(numbers == 0, TINY, following)


def float32_before(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The largest float32 that is smaller; in front of 0 and of the smallest normal one, the next that is normal or
    0."""
    before = np.nextafter(numbers, np.float32(-np.inf))
    return np.where(numbers == 0, -TINY, np.where(numbers == TINY, np.float32(0), before)).astype(np.float32)
