"""Write weights that are no ±α_o as a sum of filters that are.

    w = α·z, z ∈ {-1, 0, +1}:      z = (z⁺ + z⁻)/2          z⁺, z⁻: z with +1, -1 in place of its zeros
    w = β + α·s, s = ±1:           w = α·s + β·1
    w ∈ {±a, ±b}, a > b > 0:       w = (a + b)/2·h + (a - b)/2·l       h = sign(w), l = h·sign(|w| - (a + b)/2)
    w = β + α·k, k = ±½, ±1½:      w = α·h + α/2·l + β·1               the same h and l, of k
    w ∈ {v₀ < v₁ < … < vₙ}:        w = Σ (vᵢ - vᵢ₋₁)/2·sᵢ + (v₀ + vₙ)/2·1      sᵢ = sign(w - (vᵢ + vᵢ₋₁)/2)

A convolution is linear in its weights, so it is the sum of the convolutions with these terms, each exact.  Only the
filters that hold zeros need z⁻; and all filters share the one filter of +1, whose result is the sum of the window.

Every sign here is that of the traced weight less a threshold: z⁺ is sign(w + α/2), z⁻ sign(w - α/2), s is sign(w - β)
and 1 is sign(w + ∞); l is the product of three, as -, + - - and so on: l = sign(w - t)·sign(w)·sign(w + t).
Verification computes the filters from the network's weights by that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bnncc.passes.affine import Vector
from bnncc.passes.binary_weights import Filters, are_steps, count_zeros, split_weights, tolerance

# Of filters: the offset [O]; of each term the magnitude [O], and the thresholds [1 or 3, O] whose signs are multiplied.
Values = tuple[Vector, tuple[tuple[Vector, npt.NDArray[np.float64]], ...]]

# Two weights are always two values: a filter must repeat them to say that it holds no more.
FEWEST_WEIGHTS = 4
# A filter of more is no sum of few.
MOST_VALUES = 4
# A filter whose weights differ by less, relative to the largest, holds one value and the rounding of float32.
SAME = 1e-6


@dataclass(frozen=True)
class Term:
    """Filters [k, C·copies/group, …], ±a in each, for `copies` copies of the input along its channels.

    rows: which of the layer's filters they are a part of, one for each; -1 - o where they are the part negated.
    thresholds: one for each copy, a number or one for each of the layer's filters, in units of the traced weights; or
    several such lists, of which the product of the signs is meant.
    factors [O]: by what the result of a term of one filter is multiplied to be a part of every filter of the layer.
    """

    filters: npt.NDArray[np.float64]
    rows: tuple[int, ...]
    thresholds: tuple[float | tuple[float, ...] | tuple[tuple[float, ...], ...], ...]
    factors: Vector | None = None


@dataclass(frozen=True)
class Terms:
    """A layer as the sum of layers, the first with all its filters.  clause: for the report."""

    terms: tuple[Term, ...]
    clause: str

    def divided_by(self, scale: npt.NDArray[np.float64]) -> Terms:
        """The terms of the weights as they were before each was multiplied by `scale` [O, C/group, …]."""
        divided = []
        for term in self.terms:
            rows = [row if row >= 0 else -1 - row for row in term.rows]
            own = np.concatenate([scale[rows]] * len(term.thresholds), axis=1)
            divided.append(replace(term, filters=term.filters / own))
        return Terms(tuple(divided), self.clause)


def rows_with_zeros(filters: Filters) -> npt.NDArray[np.intp]:
    """The filters that hold zeros, of filters [O, …] that are ±α_o or 0, without those of zeros only."""
    rows = filters.reshape(filters.shape[0], -1)
    return np.flatnonzero(np.any(rows == 0, axis=1) & np.any(rows != 0, axis=1))


def zeros_twice(filters: Filters, traced: Filters, *, every: bool = False) -> Terms:
    """Filters [O, …] of ±α_o and 0: those with zeros, or every one, as two halves.

    traced: the network's own weights, of any scale.
    """
    rows, least = rows_with_zeros(filters), _half_of_least(traced)
    if every:
        rows = np.arange(len(filters))
    plus, minus = _halves(filters)
    first = filters.astype(np.float64)
    first[rows] = plus[rows]
    whole = Term(first, tuple(range(len(filters))), (-least,))
    rest = Term(minus[rows], tuple(rows.tolist()), (least,))
    which = f"{len(rows):,} of its {len(filters):,} filters"
    return Terms((whole, rest), f"{which}, with weights that are 0, are two convolutions: the zeros as +1 and as -1")


def input_twice(filters: Filters, traced: Filters) -> Terms:
    """The same for all filters at once: their halves, for the input and a copy of it."""
    least = _half_of_least(traced)
    term = Term(np.concatenate(_halves(filters), axis=1), tuple(range(len(filters))), (-least, least))
    return Terms((term,), "its weights that are 0 taken as +1 and as -1, on its input, twice")


def two_values(filters: Filters, input_scale: float, group: int) -> Terms | None:
    """Filters [O, …] of β_o ± α_o, times `input_scale` what the traced ones are; None where one holds other values.

    A filter of one value c is ±|c|.  In groups each filter has its own of +1, as the groups' windows differ.
    """
    rows = filters.astype(np.float64).reshape(len(filters), -1)
    if rows.shape[1] < FEWEST_WEIGHTS:
        return None
    upper = rows > (rows.max(axis=1, keepdims=True) + rows.min(axis=1, keepdims=True)) / 2
    high = np.where(upper, rows, 0).sum(axis=1) / np.maximum(upper.sum(axis=1), 1)
    low = np.where(upper, 0, rows).sum(axis=1) / np.maximum((~upper).sum(axis=1), 1)
    size = np.abs(rows).max(axis=1)
    constant = rows.max(axis=1) - rows.min(axis=1) <= SAME * size
    center, reach = (high + low) / 2, (high - low) / 2
    constants = rows.mean(axis=1)
    center, reach = np.where(constant, 0, center), np.where(constant, np.abs(constants), reach)
    center = np.where(np.abs(center) <= SAME * reach, 0, center)
    signs = np.where(np.where(constant[:, None], rows >= 0, upper), 1.0, -1.0)
    if np.any(np.abs(rows - center[:, None] - reach[:, None] * signs) > tolerance(reach)[:, None]):
        return None
    every = tuple(range(len(filters)))
    thresholds = tuple((center / input_scale).tolist())
    first = Term((reach[:, None] * signs).reshape(filters.shape), every, (thresholds,))
    clause = "its weights, two values with an offset, taken as ±α, and the offset times the sum of the window"
    return Terms((first, _offset(filters, center, group)), clause)


def few_values(filters: Filters, input_scale: float, group: int) -> Terms | None:
    """Filters [O, …] of up to four values, times `input_scale` what the traced ones are; None where one holds others.

    Two magnitudes of either sign, or values at equal distances, are two terms; others one less than they are.
    """
    rows = filters.astype(np.float64).reshape(len(filters), -1)
    if rows.shape[1] < 2 * FEWEST_WEIGHTS:
        return None
    # Weights that are any number are told by the first filters.
    found = _values(rows[:FEWEST_WEIGHTS]) and _values(rows)
    if found is None:
        return None
    center, parts = found
    every = tuple(range(len(filters)))
    terms = []
    for reach, thresholds in parts:
        signs = np.prod(np.where(rows > thresholds[:, :, None], 1.0, -1.0), axis=0)
        stored = tuple(tuple(one.tolist()) for one in thresholds / input_scale)
        terms.append(Term((reach[:, None] * signs).reshape(filters.shape), every, (stored,)))
    clause = f"its weights, of up to four values, taken as the sum of {('two', 'three')[len(parts) - 2]} of ±α"
    if not np.any(center):
        return Terms(tuple(terms), clause)
    return Terms((*terms, _offset(filters, center, group)), f"{clause}, and the offset times the sum of the window")


def takes_few_values(filters: Filters) -> bool:
    """True for filters [O, …] of so few values each that a layer of them may run as bits."""
    if split_weights(filters) is not None or count_zeros(filters) or are_steps(filters):
        return True
    return two_values(filters, 1.0, 1) is not None or few_values(filters, 1.0, 1) is not None


def _values(rows: npt.NDArray[np.float64]) -> Values | None:
    return _two_magnitudes(rows) or _four_steps(rows) or _any_values(rows)


def _two_magnitudes(rows: npt.NDArray[np.float64]) -> Values | None:
    """±a and ±b."""
    magnitude = np.abs(rows)
    upper = magnitude > (magnitude.max(axis=1, keepdims=True) + magnitude.min(axis=1, keepdims=True)) / 2
    large = np.where(upper, magnitude, 0).sum(axis=1) / np.maximum(upper.sum(axis=1), 1)
    small = np.where(upper, 0, magnitude).sum(axis=1) / np.maximum((~upper).sum(axis=1), 1)
    large = np.where(upper.any(axis=1), large, small)
    same = large - small <= SAME * large
    near = np.abs(magnitude - np.where(upper, large[:, None], small[:, None])) <= tolerance(small)[:, None]
    if not np.all(near) or np.any(small == 0):
        return None
    middle = (large + small) / 2
    # Where all have one magnitude, the second term has none, and its signs are +1.
    zeros, none = np.zeros_like(middle), np.full_like(middle, -np.inf)
    thresholds = np.where(same, none, np.stack([-middle, zeros, middle]))
    return zeros, ((middle, zeros[np.newaxis]), (np.where(same, 0, (large - small) / 2), thresholds))


def _four_steps(rows: npt.NDArray[np.float64]) -> Values | None:
    """Up to four values at equal distances."""
    first, span = rows.min(axis=1), np.ptp(rows, axis=1)
    largest = np.abs(rows).max(axis=1)
    # A filter of one value holds the lowest of four, whatever the others are.
    constant = span <= SAME * largest
    step = np.where(constant, np.where(largest > 0, largest, 1), 0.0)
    for intervals in (3, 2, 1):
        size = np.where(constant, step, span / intervals)
        place = (rows - first[:, None]) / size[:, None]
        near = np.abs(place - np.rint(place)) <= (tolerance(size) / size)[:, None]
        step = np.where(np.all(near, axis=1), size, step)
    if not np.all(step):
        return None
    thresholds = np.stack([first + (index + 0.5) * step for index in range(3)])
    return first + 1.5 * step, ((step, thresholds[1:2]), (step / 2, thresholds))


def _any_values(rows: npt.NDArray[np.float64]) -> Values | None:
    """Up to four values at any distances: a filter of fewer repeats its largest, with steps of 0."""
    ordered = np.sort(rows, axis=1)
    gaps = np.diff(ordered, axis=1)
    jumps = gaps > SAME * np.abs(rows).max(axis=1, keepdims=True)
    count = int(jumps.sum(axis=1).max(initial=0)) + 1
    if not 3 <= count <= MOST_VALUES:
        return None
    group = np.pad(np.cumsum(jumps, axis=1), ((0, 0), (1, 0)))
    members = [group == index for index in range(count)]
    sizes = np.stack([inside.sum(axis=1) for inside in members])
    sums = np.stack([np.where(inside, ordered, 0).sum(axis=1) for inside in members])
    values = sums / np.maximum(sizes, 1)
    for index in range(1, count):
        values[index] = np.where(sizes[index] > 0, values[index], values[index - 1])
    steps = np.diff(values, axis=0) / 2
    least = np.where(steps > 0, steps, np.inf).min(axis=0)
    if np.any(np.abs(ordered - np.take_along_axis(values.T, group, axis=1)) > tolerance(least)[:, None]):
        return None
    parts = tuple(
        (step, np.where(step > 0, low + step, -np.inf)[np.newaxis])
        for step, low in zip(steps, values[:-1], strict=True)
    )
    return (values[0] + values[-1]) / 2, parts


def _offset(filters: Filters, center: Vector, group: int) -> Term:
    """The term of what is added to all weights of a filter: the sum of the window times that."""
    if group == 1:
        return Term(np.ones((1, *filters.shape[1:])), (0,), (-np.inf,), center)
    own = np.broadcast_to(center.reshape(-1, *(1,) * (filters.ndim - 1)), filters.shape)
    senses = tuple(row if center[row] >= 0 else -1 - row for row in range(len(filters)))
    return Term(own.copy(), senses, (-np.inf,))


def is_sum_of_signs(filters: Filters, group: int) -> bool:
    """True for filters [O, …] that binary convolutions can say: ±α_o, with zeros or an offset."""
    return (
        split_weights(filters) is not None
        or are_steps(filters)
        or count_zeros(filters) > 0
        or two_values(filters, 1.0, group) is not None
        or few_values(filters, 1.0, group) is not None
    )


def _halves(filters: Filters) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """z⁺·α/2 and z⁻·α/2; a filter of zeros stays one."""
    wide = filters.astype(np.float64)
    along = tuple(range(1, filters.ndim))
    count = np.count_nonzero(wide, axis=along, keepdims=True)
    half = np.abs(wide).sum(axis=along, keepdims=True) / np.maximum(count, 1) / 2
    return np.where(wide == 0, half, wide / 2), np.where(wide == 0, -half, wide / 2)


def _half_of_least(traced: Filters) -> float:
    """Half the least |w| that is not 0: signs of w plus or minus this are those of w, where it has any."""
    magnitude = np.abs(traced)
    return float(magnitude[magnitude != 0].min()) / 2
