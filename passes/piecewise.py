"""Piecewise-linear functions of one variable, one a channel, exact at their breakpoints.

                        ⎧ a_0 · x + b_0      x < t_1
    f_c(x), channel c = ⎨ v_1                x = t_1
                        ⎪ a_1 · x + b_1      t_1 < x < t_2
                        ⎩ …

The value at a breakpoint is kept apart from the pieces beside it, so that x ≥ 0, x > 0 and ONNX's Sign, which is 0 at
0, are three functions; NaN says that there is none (x / |x| at 0).  All arithmetic is float64.  An operation whose
result is no such function returns None, and passes None on.

A smooth monotone function keeps nothing of this but its sign: tanh(f) is written h(f) + 0, sigmoid(f) h(f) + 1/2, with
an h that is nowhere zero but at 0 and has the sign of its argument.  `center` is then the number that is added to h(f)
and `reach` the largest |h|; Sign and comparisons at the center, and rounding at a half, find back to f.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
# More breakpoints than any binariser or activation has; a function with more is given up.
MOST_KNOTS = 32
# The most steps that a rounding may have.
MOST_STEPS = 16
# What cancels up to this share of its terms is zero: float64 rounds at 1e-16, and constants come from float32.
CANCELLED = 1e-12


@dataclass(frozen=True)
class Piecewise:
    """The functions of C channels (C = 1: the same for all), with up to K breakpoints.

    knots [C, K] ascend; a channel with fewer than K has +inf behind its own.  slopes and offsets [C, K + 1] are those
    of the open intervals before, between and behind; those behind an infinite knot repeat the last.  at [C, K].
    """

    knots: Matrix
    slopes: Matrix
    offsets: Matrix
    at: Matrix
    center: Matrix | None = None
    reach: float = np.inf

    @property
    def channels(self) -> int:
        """How many functions there are."""
        return int(self.slopes.shape[0])

    @property
    def is_flat(self) -> bool:
        """True where every piece is constant."""
        return self.center is None and not self.slopes.any()

    def __call__(self, x: npt.ArrayLike) -> Matrix:
        """The values at x [C or 1, M]: [C, M]."""
        assert self.center is None, "of this function the sign is known alone"
        points = np.broadcast_to(np.asarray(x, np.float64), (self.channels, np.shape(x)[-1]))
        piece = _pieces_right_of(self.knots, points)
        values = _take(self.slopes, piece) * points + _take(self.offsets, piece)
        for knot, value in zip(self.knots.T, self.at.T, strict=True):
            values = np.where(points == knot[:, None], value[:, None], values)
        return values


Function = Piecewise | None


def identity() -> Piecewise:
    """f(x) = x."""
    return Piecewise(np.empty((1, 0)), np.ones((1, 1)), np.zeros((1, 1)), np.empty((1, 0)))


def constant(values: npt.ArrayLike) -> Piecewise:
    """f_c(x) = values[c]."""
    column = np.asarray(values, np.float64).reshape(-1, 1)
    return Piecewise(np.empty((len(column), 0)), np.zeros_like(column), column, np.empty((len(column), 0)))


# Knots


def _take(matrix: Matrix, index: npt.NDArray[np.intp]) -> Matrix:
    taken: Matrix = np.take_along_axis(matrix, index, axis=1)
    return taken


def _pieces_right_of(knots: Matrix, points: Matrix) -> npt.NDArray[np.intp]:
    """The index of the piece that begins at or contains each point; behind the last knot of a channel, the last."""
    passed = (knots[:, None, :] <= points[:, :, None]) & np.isfinite(knots)[:, None, :]
    count: npt.NDArray[np.intp] = passed.sum(axis=2)
    return count


def _rows(f: Piecewise, channels: int) -> Piecewise:
    if f.channels == channels:
        return f

    def grown(matrix: Matrix) -> Matrix:
        return np.broadcast_to(matrix, (channels, matrix.shape[1]))

    center = None if f.center is None else grown(f.center)
    return replace(
        f, knots=grown(f.knots), slopes=grown(f.slopes), offsets=grown(f.offsets), at=grown(f.at), center=center
    )


def _sorted_knots(knots: Matrix) -> Matrix:
    """Ascending, each once, without columns that no channel uses."""
    knots = np.sort(knots, axis=1)
    repeated = np.zeros(knots.shape, bool)
    repeated[:, 1:] = knots[:, 1:] == knots[:, :-1]
    knots = np.sort(np.where(repeated, np.inf, knots), axis=1)
    return knots[:, : int(np.isfinite(knots).sum(axis=1).max(initial=0))]


def _with_knots(f: Piecewise, knots: Matrix) -> Piecewise:
    """The same function on `knots`, which hold all of its own that matter."""
    left = np.concatenate([np.full((len(knots), 1), -np.inf), knots], axis=1)
    piece = _pieces_right_of(f.knots, left)
    slopes, offsets = _take(f.slopes, piece), _take(f.offsets, piece)
    finite = np.where(np.isfinite(knots), knots, 0.0)
    at = slopes[:, 1:] * finite + offsets[:, 1:]
    for knot, value in zip(f.knots.T, f.at.T, strict=True):
        at = np.where(knots == knot[:, None], value[:, None], at)
    return replace(f, knots=knots, slopes=slopes, offsets=offsets, at=np.where(np.isfinite(knots), at, 0.0))


def _refine(f: Piecewise, knots: Matrix) -> Function:
    """The same function with `knots` [C, any] among its breakpoints; None where these become too many."""
    merged = _sorted_knots(np.concatenate([f.knots, knots], axis=1))
    return None if merged.shape[1] > MOST_KNOTS else _with_knots(f, merged)


def _aligned(*functions: Function) -> list[Piecewise] | None:
    """All of them on the same breakpoints."""
    given = [f for f in functions if f is not None]
    if len(given) < len(functions):
        return None
    channels = max(f.channels for f in given)
    rows = [_rows(f, channels) for f in given]
    knots = _sorted_knots(np.concatenate([f.knots for f in rows], axis=1))
    return None if knots.shape[1] > MOST_KNOTS else [_with_knots(f, knots) for f in rows]


def _edges(f: Piecewise) -> tuple[Matrix, Matrix]:
    """The left and right ends of the pieces; beyond the last knot of a channel both are infinite."""
    far = np.full((f.channels, 1), np.inf)
    return np.concatenate([-far, f.knots], axis=1), np.concatenate([f.knots, far], axis=1)


def _inner_values(f: Piecewise) -> Matrix:
    """The value of every piece at a point inside it (of those behind the last knot, whatever)."""
    left, right = _edges(f)
    low = np.where(np.isfinite(left), left, 0.0)
    high = np.where(np.isfinite(right), right, 0.0)
    only_left = low + np.maximum(1.0, np.abs(low))
    only_right = high - np.maximum(1.0, np.abs(high))
    bounded = low + (high - low) / 2
    point = np.where(np.isfinite(left), np.where(np.isfinite(right), bounded, only_left), only_right)
    point = np.where(np.isfinite(left) | np.isfinite(right), point, 0.0)
    return np.where(f.slopes == 0, f.offsets, f.slopes * point + f.offsets)


def simplified(f: Piecewise, tolerance: float = CANCELLED) -> Piecewise:
    """Without the breakpoints at which nothing happens: both pieces are one line (up to `tolerance`), and the value
    there lies on it."""
    finite = np.where(np.isfinite(f.knots), f.knots, 0.0)
    left = f.slopes[:, :-1] * finite + f.offsets[:, :-1]
    right = f.slopes[:, 1:] * finite + f.offsets[:, 1:]
    size = np.abs(f.slopes[:, 1:] * finite) + np.abs(f.offsets[:, :-1]) + np.abs(f.offsets[:, 1:])
    slope = np.abs(f.slopes[:, 1:]) + np.abs(f.slopes[:, :-1])
    idle = (
        (np.abs(f.slopes[:, 1:] - f.slopes[:, :-1]) <= tolerance * slope)
        & (np.abs(left - right) <= tolerance * size)
        & (np.abs(f.at - right) <= tolerance * size)
    )
    return _with_knots(f, _sorted_knots(np.where(idle, np.inf, f.knots)))


def _with_zeros(f: Piecewise) -> Function:
    """The same function with a breakpoint wherever a piece crosses zero."""
    left, right = _edges(f)
    sloped = f.slopes != 0
    crossing = np.where(sloped, -f.offsets / np.where(sloped, f.slopes, 1.0), np.inf)
    # Adding 0 turns -0 into 0.
    crossing = np.where((crossing > left) & (crossing < right), crossing + 0.0, np.inf)
    refined = _refine(f, crossing)
    if refined is None:
        return None
    new = (refined.knots[:, :, None] == crossing[:, None, :]).any(axis=2) & np.isfinite(refined.knots)
    return replace(refined, at=np.where(new, 0.0, refined.at))


# Arithmetic


def _sum(left: Matrix, right: Matrix) -> Matrix:
    total = left + right
    return np.where(np.abs(total) <= CANCELLED * (np.abs(left) + np.abs(right)), 0.0, total)


def add(f: Function, g: Function) -> Function:
    """f + g."""
    pair = _aligned(f, g)
    if pair is None:
        return None
    f, g = pair
    if f.center is not None or g.center is not None:
        if g.center is not None:
            f, g = g, f
        if f.center is None or not g.is_flat or g.knots.size:
            return None
        return replace(f, center=_sum(f.center, g.offsets))
    return Piecewise(f.knots, _sum(f.slopes, g.slopes), _sum(f.offsets, g.offsets), _sum(f.at, g.at))


def negate(f: Function) -> Function:
    """-f."""
    return multiply(f, constant(-1.0))


def subtract(f: Function, g: Function) -> Function:
    """f - g."""
    return add(f, negate(g))


def multiply(f: Function, g: Function) -> Function:
    """f · g where on every piece one of them is constant."""
    pair = _aligned(f, g)
    if pair is None:
        return None
    f, g = pair
    if f.center is not None or g.center is not None:
        if g.center is not None:
            f, g = g, f
        if f.center is None or not g.is_flat or g.knots.size or np.any(g.offsets == 0):
            return None
        factor, sign = g.offsets, np.sign(g.offsets)
        flipped = multiply(replace(f, center=None), constant(sign))
        assert flipped is not None
        return replace(flipped, center=f.center * factor, reach=f.reach * float(np.abs(factor).max()))
    if np.any((f.slopes != 0) & (g.slopes != 0)):
        return None
    slopes = f.slopes * g.offsets + g.slopes * f.offsets
    return Piecewise(f.knots, slopes, f.offsets * g.offsets, f.at * g.at)


def divide(f: Function, g: Function) -> Function:
    """f / g where on every piece g is constant, or f a multiple of g, as in x / |x|.  Undefined where g is 0."""
    if g is None or g.center is not None:
        return None
    pair = _aligned(f, _with_zeros(g))
    if pair is None:
        return None
    f, g = pair
    flat = g.slopes == 0
    if np.any(flat & (g.offsets == 0)):
        return None
    if f.center is not None:
        return multiply(f, constant(1 / g.offsets)) if flat.all() and not g.knots.size else None
    ratio = f.slopes / np.where(flat, g.offsets, g.slopes)
    proportional = np.abs(f.offsets - ratio * g.offsets) <= CANCELLED * np.abs(f.offsets)
    if np.any(~flat & ~proportional):
        return None
    slopes = np.where(flat, ratio, 0.0)
    offsets = np.where(flat, f.offsets / np.where(flat, g.offsets, 1.0), ratio)
    at = np.where(g.at == 0, np.nan, f.at / np.where(g.at == 0, 1.0, g.at))
    return Piecewise(f.knots, slopes, offsets, np.where(np.isfinite(f.knots), at, 0.0))


# Steps


def sign(f: Function) -> Function:
    """-1, 0 or +1."""
    if f is None or (f.center is not None and np.any(f.center != 0)):
        return None
    cut = _with_zeros(replace(f, center=None))
    if cut is None:
        return None
    signs = Piecewise(cut.knots, np.zeros_like(cut.slopes), np.sign(_inner_values(cut)), np.sign(cut.at))
    return _with_knots(signs, signs.knots)


def compare(f: Function, g: Function, holds: Callable[[Matrix], npt.NDArray[np.bool_]]) -> Function:
    """1 where `holds(sign(f - g))`, else 0; 0 where there is no value."""
    signs = sign(subtract(f, g))
    if signs is None:
        return None
    at = np.where(np.isnan(signs.at), 0.0, holds(signs.at))
    return replace(signs, offsets=holds(signs.offsets).astype(np.float64), at=at)


def select(condition: Function, f: Function, g: Function) -> Function:
    """f where the condition, constant on every piece, is not 0; else g."""
    aligned = _aligned(condition, f, g)
    if aligned is None or any(one.center is not None for one in aligned) or not aligned[0].is_flat:
        return None
    where, f, g = aligned
    piece, knot = where.offsets != 0, where.at != 0
    slopes, offsets = np.where(piece, f.slopes, g.slopes), np.where(piece, f.offsets, g.offsets)
    return simplified(Piecewise(where.knots, slopes, offsets, np.where(knot, f.at, g.at)))


def _zero(f: Piecewise) -> bool:
    return f.center is None or not f.center.any()


def _inside(f: Function, bound: Function, side: int) -> bool:
    """True where f is known by its sign, and a constant bound on that side lies beyond its center."""
    if f is None or f.center is None or bound is None or not bound.is_flat or bound.knots.size:
        return False
    return bool(np.all(side * (bound.offsets - f.center) > 0))


def maximum(f: Function, g: Function) -> Function:
    """The larger one."""
    for one, other in ((f, g), (g, f)):
        if _inside(one, other, -1):
            return one
    if f is not None and f.center is not None and _zero(f) and g is not None and g.is_flat and not g.offsets.any():
        inner = maximum(replace(f, center=None), g)
        return None if inner is None else replace(inner, center=np.zeros((inner.channels, 1)), reach=f.reach)
    return select(compare(f, g, lambda s: s >= 0), f, g)


def minimum(f: Function, g: Function) -> Function:
    """The smaller one."""
    return negate(maximum(negate(f), negate(g)))


def absolute(f: Function) -> Function:
    """|f|."""
    if f is not None and f.center is not None:
        inner = absolute(replace(f, center=None)) if _zero(f) else None
        return None if inner is None else replace(inner, center=np.zeros((inner.channels, 1)), reach=f.reach)
    return select(compare(f, constant(0.0), lambda s: s >= 0), f, negate(f))


def leaky(f: Function, slope: Function) -> Function:
    """f where it is ≥ 0, slope · f elsewhere."""
    if f is not None and f.center is not None:
        if not _zero(f) or slope is None or not np.all(slope.offsets > 0):
            return None
        return replace(f, reach=f.reach * max(1.0, float(slope.offsets.max())))
    return select(compare(f, constant(0.0), lambda s: s >= 0), f, multiply(f, slope))


def monotone(f: Function, center: float, reach: float) -> Function:
    """center + h(f) with an h that has the sign of its argument, and |h| ≤ reach."""
    if f is None or not _zero(f):
        return None
    return replace(f, center=np.full((f.channels, 1), center), reach=reach)


def truncate(f: Function) -> Function:
    """The integer part of what is constant on every piece."""
    if f is None or not f.is_flat:
        return None
    return replace(f, offsets=np.trunc(f.offsets), at=np.trunc(f.at))


def quantize(f: Function, to_integer: Callable[[Matrix], Matrix], threshold: float) -> Function:
    """np.rint (its thresholds lie 0.5 above the integers), np.floor or np.ceil (0) of a function with few steps."""
    if f is None:
        return None
    if f.center is not None:
        # Between two integers the center of a half is the only threshold.
        center = f.center
        if threshold != 0.5 or f.reach > 1 or np.any(center - np.floor(center) != 0.5):
            return None
        step = sign(replace(f, center=None))
        if step is None:
            return None
        middle = np.rint(center) - center
        values = center + 0.5 * step.offsets
        at = center + np.where(step.at == 0, middle, 0.5 * step.at)
        return replace(step, offsets=np.where(step.offsets == 0, center + middle, values), at=at)
    left, right = _edges(f)
    sloped = (f.slopes != 0) & ~(np.isinf(left) & (left > 0))
    if np.any(sloped & (np.isinf(left) | np.isinf(right))):
        return None
    left, right = (np.where(sloped, edge, 0.0) for edge in (left, right))
    ends = np.stack([f.slopes * left + f.offsets, f.slopes * right + f.offsets])
    first, last = np.ceil(ends.min(axis=0) - threshold), np.floor(ends.max(axis=0) - threshold)
    steps = np.where(sloped, last - first + 1, 0)
    most = int(steps.max(initial=0))
    if most > MOST_STEPS:
        return None
    found = [
        np.where(sloped & (k < steps), (first + k + threshold - f.offsets) / np.where(sloped, f.slopes, 1.0), np.inf)
        for k in range(most)
    ]
    inside = [np.where((knot > left) & (knot < right), knot + 0.0, np.inf) for knot in found]
    refined = _refine(f, np.concatenate(inside, axis=1)) if inside else f
    if refined is None:
        return None
    values = to_integer(_inner_values(refined))
    # A breakpoint that was computed from its value has this value, not one rounded to either side.
    snapped = np.rint(refined.at - threshold) + threshold
    near = np.abs(refined.at - snapped) <= CANCELLED * (1 + np.abs(snapped))
    at = to_integer(np.where(near, snapped, refined.at))
    return simplified(Piecewise(refined.knots, np.zeros_like(values), values, at))
